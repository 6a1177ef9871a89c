//! Settings: one registry of keys, from which flags, the file, the reference page and the answers to
//! DescribeConfigs come.
//!
//! ```text
//! keys      every key once: name, kind, default, scope, importance, one line of documentation
//! kind      the types of values and what each allows; text in, value out
//! values    which keys were given, where, and with what value
//! file      the TOML file, as values
//! settings  the typed result, after every check across keys
//! topic     the same for one topic: the broker's values under its overrides
//! ```

mod address;
mod cpus;
mod error;
mod file;
mod kafka;
pub mod keys;
mod kind;
mod reference;
mod settings;
mod spin;
mod topic;
mod values;

pub use address::{Address, Listener, Protocol};
pub use cpus::{CpuId, Cpus};
pub use error::Error;
pub use file::read_file;
pub use keys::{Importance, Key, Scope};
pub use kind::{Kind, Value, ValueType};
pub use reference::reference_page;
pub use settings::{FlushMethod, Settings, TimestampType};
pub use spin::Spin;
pub use topic::TopicSettings;
pub use values::{Described, Origin, Source, Synonym, Values};
