//! How many files and sockets the broker may have open at once, and how the shards share them. Runs once, at the start.
//!
//! A shard that cannot open a segment or replace its manifest takes no more appends, so connections must never take the
//! last descriptor: what the process may have is divided beforehand, and a connection too many is closed.

use corelane_shards::limits::{CONNECTIONS_MAX, SEGMENT_FILES_OPEN_MAX};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the process has open besides its shards: the lock, the metadata, 64 connections of the admin listener.
const BROKER_FILES: usize = 96;

/// What a shard has open besides connections and kept segments: rings, journal, a file that is being replaced, and segments
/// that are no longer kept but still written or flushed.
const SHARD_FILES: usize = 112;

/// The least that a shard gets of each, however low the limit is.
const LEAST: usize = 8;

/// Fewer connections than this are worth a warning.
const CONNECTIONS_FEW: usize = 1024;

/// What each shard may have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// Segment files that it keeps open.
    pub(super) segments_per_shard: usize,
    /// Connections.
    pub(super) connections_per_shard: usize,
}

/// Raises the process's limit on open files as far as the system allows, and divides it.
pub(super) fn claim(shards: usize) -> Descriptors {
    let limit = raise();
    let claimed = divide(limit, shards);
    let Descriptors { segments_per_shard, connections_per_shard } = claimed;
    if segments_per_shard < SEGMENT_FILES_OPEN_MAX || connections_per_shard < CONNECTIONS_FEW {
        tracing::warn!(
            limit,
            segments_per_shard,
            connections_per_shard,
            "few files may be open at once: raise the limit with `ulimit -Hn` or LimitNOFILE"
        );
    }
    claimed
}

/// Raises the soft limit to the hard one. The limit from now on.
fn raise() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let limit = match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files stays as it is");
            current
        }
    };
    limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Segments first, up to half of what is left of the limit: a log that cannot be written is worse than a client that waits.
fn divide(limit: usize, shards: usize) -> Descriptors {
    let own = BROKER_FILES + shards * SHARD_FILES;
    let each = limit.saturating_sub(own) / shards;
    let segments_per_shard = (each / 2).clamp(LEAST, SEGMENT_FILES_OPEN_MAX);
    let connections_per_shard = each.saturating_sub(segments_per_shard).clamp(LEAST, CONNECTIONS_MAX);
    Descriptors { segments_per_shard, connections_per_shard }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_away_fits_into_the_limit() {
        for shards in [1, 2, 4, 64] {
            for limit in [1024, 4096, 20_000, 524_288, 1 << 20, usize::MAX] {
                let Descriptors { segments_per_shard, connections_per_shard } = divide(limit, shards);
                let all = BROKER_FILES + shards * (SHARD_FILES + segments_per_shard + connections_per_shard);
                let is_forced = segments_per_shard == LEAST || connections_per_shard == LEAST;
                assert!(all <= limit || is_forced, "{all} of {limit} for {shards} shards");
            }
        }
    }

    #[test]
    fn a_high_limit_gives_every_shard_what_it_can_use() {
        let all = Descriptors {
            segments_per_shard: SEGMENT_FILES_OPEN_MAX,
            connections_per_shard: CONNECTIONS_MAX,
        };
        assert_eq!(divide(usize::MAX, 4), all);
        assert_eq!(divide(1024, 1), Descriptors { segments_per_shard: 408, connections_per_shard: 408 });
        assert_eq!(divide(10, 2), Descriptors { segments_per_shard: LEAST, connections_per_shard: LEAST });
    }
}
