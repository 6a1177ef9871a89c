//! What the store is tested against: a disk that fails, stops and forgets, and the suites that run over it
//! and over real files.
//!
//! | module | what it holds |
//! |---|---|
//! | `disk` | files in memory that know what a crash may take back |
//! | `contract` | what every `MetadataStore` must do, over each implementation |
//! | `crash` | a stop after every file operation, with every subset of unflushed work lost or torn |
//! | `failure` | one failing file operation: the store is poisoned and stays so |
//! | `flips` | every byte of the files changed: detected or harmless |
//! | `workload` | the deterministic commits that these compare with |

mod contract;
mod crash;
mod disk;
mod failure;
mod flips;
mod workload;
