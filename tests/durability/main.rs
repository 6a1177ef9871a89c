//! What survives a loss of power: the tests that need a disk of their own to be cut off.
//!
//! `powercut` is the instrument, `self_check` proves that it sees lost writes and loses no flushed one.

mod broker;
mod checker;
mod kill;
mod load;
mod powercut;
mod self_check;
