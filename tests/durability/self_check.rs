//! Proof that the power-cut instrument works: it loses nothing that was flushed, and sees an ack before the
//! flush.
//!
//! A writer overwrites blocks with growing numbers by direct I/O and acknowledges them, either after the
//! flush or, as the planted bug, before it. The power is cut in the middle, and every sector of every block
//! must then hold a number from the last acknowledged one up to the last attempted one.

mod cuts;
mod promises;
mod sectors;
mod writer;
