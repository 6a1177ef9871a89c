//! What crosses between shards. Everything here owns its memory, or has it on loan.

use std::any::Any;

use super::slots::Key;
use crate::core::effect::Appended;
use crate::core::{Acks, AppendError, FetchError};
use crate::memory::Lent;
use crate::types::{Offset, PartitionId, Timestamp};

/// Which state of the ownership of logs a call was routed by. Grows with each move of a log between running shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnershipEpoch(pub u64);

/// Nothing was seen: the shard that was asked ended before it answered, or the log would not stay in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no shard that has the log could be asked")]
pub struct Gone;

/// One thing on its way from one shard to another.
pub(super) enum Message<H> {
    /// Asks; answered once, under the same key.
    Call(Call<H>),
    /// Answers.
    Answer(Key, Answer<H>),
    /// A watched record is visible, or its log is gone.
    Advanced(Key),
    /// Nobody waits for a watched record any more.
    Unwatch(Key),
    /// The log is the other shard's now, by the move of this epoch.
    Handed(PartitionId, OwnershipEpoch),
}

/// A question, where its answer goes, and by which state of ownership it came here.
pub(super) struct Call<H> {
    pub(super) key: Key,
    pub(super) epoch: OwnershipEpoch,
    pub(super) question: Question<H>,
}

/// What a shard may ask the owner of a log.
pub(super) struct Question<H> {
    pub(super) partition: PartitionId,
    pub(super) ask: Ask<H>,
}

impl<H> Question<H> {
    /// What it was lent, if it is an append.
    pub(super) fn into_batch(self) -> Option<Lent> {
        match self.ask {
            Ask::Append { batch, .. } => Some(batch),
            _ => None,
        }
    }
}

/// A question that needs the value of a closure as its answer.
pub(super) type Look<H> = Box<dyn FnOnce(&H) -> Box<dyn Any + Send> + Send>;

pub(super) enum Ask<H> {
    Append {
        /// Lies at the shard that asks, which has it back with the answer.
        batch: Lent,
        acks: Acks,
    },
    Fetch {
        offset: Offset,
        bytes_max: usize,
    },
    Seek {
        timestamp: Timestamp,
        from: Offset,
    },
    /// `watch` names the wait at the asking shard.
    Watch {
        offset: Offset,
        watch: Key,
    },
    Look(Look<H>),
}

/// What it is answered.
pub(super) enum Answer<H> {
    /// The batch goes home.
    Appended(Result<Appended, AppendError>, Lent),
    Fetched(Result<Box<Copied>, FetchError>),
    Sought(Result<Option<Offset>, FetchError>),
    /// Whether [`Message::Advanced`] will follow; if not there is nothing to wait for.
    Watching(bool),
    Seen(Box<dyn Any + Send>),
    /// The log is elsewhere in the state of this epoch. The question comes back whole, to be asked there.
    Moved(OwnershipEpoch, Question<H>),
    /// Too many calls wait for logs that move, or this one has for too long. Nothing was done.
    Refused(Question<H>),
    /// The shard has no logs, or has ended; then what it was lent does not come back.
    Gone(Option<Question<H>>),
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
