//! What crosses between shards. Everything here owns its memory.

use std::any::Any;

use super::slots::Key;
use crate::core::effect::Appended;
use crate::core::{Acks, AppendError, FetchError};
use crate::engine::Log;
use crate::types::{Offset, PartitionId};

/// Which state of the ownership of logs a call was routed by. Grows with each move of a log between running shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnershipEpoch(pub u64);

/// The shard that was asked has ended, or failed, before it answered. It may or may not have done what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shard that has the log ended before it answered")]
pub struct Gone;

/// One thing on its way from one shard to another.
pub(super) enum Message {
    /// Asks; answered once, under the same key.
    Call(Call),
    /// Answers.
    Answer(Key, Answer),
    /// A watched record is visible, or its log is gone.
    Advanced(Key),
    /// Nobody waits for a watched record any more.
    Unwatch(Key),
}

/// A question and where its answer goes.
pub(super) struct Call {
    pub(super) key: Key,
    pub(super) epoch: OwnershipEpoch,
    pub(super) question: Question,
}

/// A question that needs the value of a closure as its answer.
pub(super) type Look = Box<dyn FnOnce(&Log) -> Box<dyn Any + Send> + Send>;

/// What a shard may ask another one.
pub(super) enum Question {
    Append {
        partition: PartitionId,
        batch: Box<[u8]>,
        acks: Acks,
    },
    Fetch {
        partition: PartitionId,
        offset: Offset,
        bytes_max: usize,
    },
    /// `watch` names the wait at the asking shard.
    Watch {
        partition: PartitionId,
        offset: Offset,
        watch: Key,
    },
    Look(Look),
}

/// What it is answered.
pub(super) enum Answer {
    Appended(Result<Appended, AppendError>),
    Fetched(Result<Box<Copied>, FetchError>),
    /// Whether [`Message::Advanced`] will follow; if not there is nothing to wait for.
    Watching(bool),
    Seen(Box<dyn Any + Send>),
    /// The shard has no logs.
    Gone,
}

/// Fetched batches in memory that may cross.
pub(super) struct Copied {
    /// All batches, one after the other.
    pub(super) bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    pub(super) ends: Vec<usize>,
    pub(super) high_watermark: Offset,
    pub(super) log_start: Offset,
}
