//! `corelane dump` on the directory of a real broker: beside it, after it was killed, and after a clean stop; whole, and
//! with a flipped bit in each kind of file. What is shown is compared with what was produced.

mod broker;
mod damaged;
mod dumped;
mod whole;
