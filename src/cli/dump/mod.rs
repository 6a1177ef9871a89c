//! `corelane dump`: what the files of a data directory say, for people, whether or not the directory opens.
//!
//! | module | shows |
//! |---|---|
//! | `arguments` | what can be typed |
//! | `run` | takes the paths one by one, and says at the end what was wrong |
//! | `kind` | which file is which, by its first bytes and by its name |
//! | `source` | a file's bytes, read in place and never as a whole |
//! | `surroundings` | the data directory that a file lies in: what it must be compared with |
//! | `overview` | a whole data directory |
//! | `small` | `format`, `lock` and `root` |
//! | `manifest`, `journal`, `chain`, `segment`, `index`, `metadata` | the file of that name |
//! | `report` | facts, tables, notes and damage, for people or as JSON |
//! | `cell` | one value of these, both ways |
//! | `error` | why the exit code is not 0 |
//! | `testing`, `tests` | journals and segments made for it, whole and damaged |
//!
//! Runs on the main thread, beside a broker or without one. It only reads, and holds no lock; what it reads of a running
//! broker may be in motion, and it says so. Nothing in a file is trusted: a length is checked before it is used, text is
//! escaped before it is printed, and memory is bounded by the longest batch, group or manifest, not by a file. All
//! decoding is `corelane_shards::format`'s and `cluster`'s; the modules here decide what is damage, by the rules that a
//! start follows, and how things look.

mod arguments;
mod cell;
mod chain;
mod error;
mod index;
mod journal;
mod kind;
mod manifest;
mod metadata;
mod overview;
mod report;
mod run;
mod segment;
mod small;
mod source;
mod surroundings;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub(crate) use arguments::DumpArguments;
pub(crate) use error::Error;
pub(crate) use run::dump;
