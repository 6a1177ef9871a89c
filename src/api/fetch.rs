//! Fetch 4-16: whole record batches from many partitions, and the wait until there are enough of them.
//!
//! - An answer goes out when `min_bytes` of records are there, when `max_wait_ms` have passed, or at once when a
//!   partition cannot be read or its log diverged. Partitions that do not exist do not end the wait, as with Kafka.
//! - Batches are whole. The first one found is answered whatever its size; after it, `max_bytes` and each partition's
//!   own limit hold. Where reading begins among the partitions changes from request to request, so that none starves.
//! - There are no fetch sessions (KIP-227): each request is complete and is answered with session 0 and every partition
//!   that it names, as by a Kafka whose cache of sessions is full. A step of a session is answered with
//!   FETCH_SESSION_ID_NOT_FOUND, and the client begins anew.
//! - Version 9 brings the leader epoch (KIP-320): FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH. Version 12 brings the last
//!   fetched epoch (KIP-595): where the client's log left ours, it is told where. Version 13 names topics by id; an
//!   unknown one is UNKNOWN_TOPIC_ID. Version 16 says who leads a partition that is not led here (KIP-951).
//! - Both isolation levels read up to the high watermark; read_committed gets an empty list of aborted transactions.
//! - Nobody replicates from here: a follower is answered as one that Kafka does not know.
//! - Up to version 5, KAFKA_STORAGE_ERROR is told as NOT_LEADER_OR_FOLLOWER, which older clients understand.

mod read;
mod wanted;

use read::{Budget, Outcome};
use wanted::Wanted;

use super::bounds::check_elements;
use super::engine::{Engine, Position};
use super::located::endpoints_of;
use super::registry::Api;
use super::serve::{Answer, Context};
use super::view::View;
use super::{CloseReason, ErrorCode, Request};
use crate::wire::fetch as codec;
use crate::wire::fetch::response::{AbortedTransaction, Head, Partition, ResponseEncoder};
use crate::wire::leader::LeaderAndEpoch;

/// Fetch.
pub const API: Api = Api {
    key: 1,
    name: "Fetch",
    advertised: codec::VERSIONS,
    served: codec::VERSIONS,
    flexible_from: codec::FLEXIBLE_FROM,
};

/// The most bytes of records in one answer, whatever is asked for; Kafka's default of `fetch.max.bytes`.
const RESPONSE_BYTES_MAX: i32 = 55 << 20;

/// The first version that hints at a new leader.
const HINTS_FROM: i16 = 16;

/// Up to this version, clients do not know KAFKA_STORAGE_ERROR.
const NO_STORAGE_ERROR_UP_TO: i16 = 5;

/// The isolation level of clients that want to know of aborted transactions.
const READ_COMMITTED: i8 = 1;

/// Answers a request.
pub async fn handle<E: Engine>(request: &Request<'_>, context: &Context<'_>, engine: &E) -> Answer<E::Slice> {
    let body = match codec::Request::parse(request.frame, request.header.body_at, request.version()) {
        Ok(body) => body,
        Err(error) => return Answer::Close(CloseReason::Malformed(error)),
    };
    let partitions: usize = body.topics().map(|topic| 1 + topic.partitions().len()).sum();
    if let Err(reason) = check_elements(request, partitions) {
        return Answer::Close(reason);
    }
    // A session's first request has the step 0, one outside of a session -1; both are complete.
    if !matches!(body.session_epoch, -1 | 0) {
        let error_code = ErrorCode::FetchSessionIdNotFound.code();
        let head = Head { error_code, ..Head::default() };
        let encoder = ResponseEncoder::new(request.version(), request.correlation_id(), head, 0);
        return Answer::Respond(encoder.finish(&[]));
    }
    let wanted = wanted::read(&body, engine);
    let outcomes = collect(request, &body, &wanted, engine).await;
    Answer::Respond(encode(request, &body, &wanted, outcomes, context, engine))
}

/// Reads, and waits and reads on, until the answer may go out.
async fn collect<E: Engine>(
    request: &Request<'_>,
    body: &codec::Request<'_>,
    wanted: &[Wanted<'_>],
    engine: &E,
) -> Vec<Outcome<E::Slice>> {
    let max_bytes = body.max_bytes.clamp(0, RESPONSE_BYTES_MAX);
    let mut budget = Budget { bytes_max: usize::try_from(max_bytes).expect("not negative"), taken: 0 };
    let min_bytes = usize::try_from(body.min_bytes.min(max_bytes)).unwrap_or(0);
    let deadline = engine.now().saturating_add(body.max_wait_ms.into());
    let mut outcomes: Vec<_> = wanted.iter().map(|wanted| Outcome::refused(wanted.error())).collect();
    let mut readable: Vec<usize> = (0..wanted.len()).filter(|at| wanted[*at].is_readable()).collect();
    rotate(&mut readable, request.correlation_id());
    let mut unread = readable.clone();
    loop {
        read::read(engine, &mut budget, wanted, &unread, &mut outcomes).await;
        let is_final = readable.iter().any(|at| outcomes[*at].is_final());
        if readable.is_empty() || is_final || budget.taken >= min_bytes || engine.now() >= deadline {
            return outcomes;
        }
        let position = |at: &usize| Position {
            partition: wanted[*at].located.as_ref().expect("readable partitions exist").id,
            offset: outcomes[*at].high_watermark,
        };
        let positions: Vec<Position> = readable.iter().map(position).collect();
        let advanced = engine.wait_for_data(&positions, deadline).await;
        if advanced.is_empty() {
            return outcomes;
        }
        unread = advanced.into_iter().map(|at| readable[at]).collect();
    }
}

/// Begins somewhere else with each request. The correlation id counts requests of every kind, so it is spread first: a
/// client that alternates kinds would otherwise meet the same beginning each time.
fn rotate(readable: &mut [usize], correlation_id: i32) {
    const GOLDEN_RATIO: u32 = 0x9e37_79b9;
    let spread = correlation_id.cast_unsigned().wrapping_mul(GOLDEN_RATIO) >> 16;
    if !readable.is_empty() {
        let length = readable.len();
        readable.rotate_left(usize::try_from(spread).expect("16 bits") % length);
    }
}

fn encode<E: Engine>(
    request: &Request<'_>,
    body: &codec::Request<'_>,
    wanted: &[Wanted<'_>],
    outcomes: Vec<Outcome<E::Slice>>,
    context: &Context<'_>,
    engine: &E,
) -> Vec<super::Segment<E::Slice>> {
    let version = request.version();
    let is_moved = |outcome: &Outcome<_>| {
        matches!(outcome.error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch)
    };
    let view = (version >= HINTS_FROM && outcomes.iter().any(is_moved)).then(|| context.view(engine));
    let mut hinted: Vec<LeaderAndEpoch> = Vec::new();
    let topics = wanted.chunk_by(|one, next| one.topic == next.topic).map(<[_]>::len);
    let topics: Vec<usize> = topics.collect();
    let mut encoder = ResponseEncoder::new(version, request.correlation_id(), Head::default(), topics.len());
    let mut left = wanted.iter().zip(outcomes);
    for partitions in topics {
        for (at, (wanted, outcome)) in left.by_ref().take(partitions).enumerate() {
            if at == 0 {
                encoder.topic(wanted.topic, partitions);
            }
            let view = view.as_ref().filter(|_| is_moved(&outcome));
            let leader = view.and_then(|view| Some(wanted.located.ok()?.leader(view.controller_id())));
            hinted.extend(leader);
            let aborted = aborted_transactions(wanted, &outcome, body.isolation_level);
            let described = describe(wanted.index, &outcome, aborted, version, leader);
            encoder.partition(&described, outcome.batches);
        }
    }
    let brokers = view.map(|view| view.brokers()).unwrap_or_default();
    encoder.finish(&endpoints_of(&brokers, &hinted))
}

/// None was ever aborted. As with Kafka, a partition that was read says so in read_committed alone, and one that does not
/// exist says so always.
fn aborted_transactions<S>(
    wanted: &Wanted<'_>,
    outcome: &Outcome<S>,
    isolation_level: i8,
) -> Option<&'static [AbortedTransaction]> {
    let was_read = outcome.error == ErrorCode::None && outcome.diverging_epoch.is_none();
    let is_named = if wanted.is_readable() { was_read && isolation_level == READ_COMMITTED } else { true };
    is_named.then_some(&[])
}

fn describe<S: AsRef<[u8]>>(
    index: i32,
    outcome: &Outcome<S>,
    aborted_transactions: Option<&'static [AbortedTransaction]>,
    version: i16,
    current_leader: Option<LeaderAndEpoch>,
) -> Partition<'static> {
    let error = match outcome.error {
        ErrorCode::KafkaStorageError if version <= NO_STORAGE_ERROR_UP_TO => ErrorCode::NotLeaderOrFollower,
        error => error,
    };
    Partition {
        index,
        error_code: error.code(),
        high_watermark: outcome.high_watermark.get(),
        last_stable_offset: outcome.high_watermark.get(),
        log_start_offset: outcome.log_start.get(),
        diverging_epoch: outcome.diverging_epoch,
        current_leader,
        aborted_transactions,
        preferred_read_replica: -1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_comes_first_now_and_then() {
        for step in [1, 2, 3, 16] {
            let mut first = std::collections::BTreeSet::new();
            for request in 0..64 {
                let mut order: Vec<usize> = (0..4).collect();
                rotate(&mut order, request * step);
                first.insert(order[0]);
            }
            assert_eq!(first.len(), 4, "correlation ids in steps of {step}");
        }
        rotate(&mut [], 7);
    }

    #[test]
    fn a_storage_error_is_told_as_each_version_knows_it() {
        let outcome: Outcome<&[u8]> = Outcome::refused(ErrorCode::KafkaStorageError);
        for (version, expected) in [(4, 6), (5, 6), (6, 56), (16, 56)] {
            assert_eq!(describe(0, &outcome, None, version, None).error_code, expected, "{version}");
        }
    }
}
