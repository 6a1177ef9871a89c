//! What survives the broker's death and the loss of power, and what hostile clients cost.
//!
//! `broker`, `load` and `checker` are what the tests `kill`, `power` and `hostile` are made of. `figures` compares what an
//! operator is shown. `deletion` is one that a death cuts in two. `starts` and `descriptors` are about what the system
//! refuses. `powercut` is the disk that is cut off, and `self_check` proves that it sees lost writes and loses no flushed
//! one.

mod broker;
mod checker;
mod deletion;
mod descriptors;
mod figures;
mod hostile;
mod kill;
mod load;
mod power;
mod powercut;
mod self_check;
mod starts;
