//! What our handler makes of Fetch: limits, waits, epochs and sessions.

use bytes::Bytes;
use corelane_shards::format::batch::fixture::{Header, batch};
use corelane_shards::types::Offset;
use kafka_protocol::messages as m;
use kafka_protocol::messages::fetch_request as fetch;

use crate::asking::ask;
use crate::fake::Fake;

fn to_fetch(partitions: &[(u8, i32, i64, i32)]) -> m::FetchRequest {
    let topics = partitions.iter().map(|(topic, index, offset, bytes_max)| {
        let partition = fetch::FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*offset)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_partition_max_bytes(*bytes_max);
        fetch::FetchTopic::default()
            .with_topic_id(TryFrom::try_from(vec![*topic; 16]).expect("16 bytes"))
            .with_partitions(vec![partition])
    });
    m::FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(topics.collect())
}

fn fetched(fake: &Fake, request: &m::FetchRequest) -> m::FetchResponse {
    ask(1, 16, request, fake)
}

/// Error, high watermark and bytes of records of each partition.
fn found(response: &m::FetchResponse) -> Vec<(i16, i64, usize)> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let bytes = |records: &Option<Bytes>| records.as_ref().expect("never null").len();
    partitions.map(|one| (one.error_code, one.high_watermark, bytes(&one.records))).collect()
}

fn fill(fake: &Fake, topic: &str, index: i32, batches: i64) -> usize {
    let one = |base| batch(&Header { base_offset: Offset(base), ..Header::default() }, &["x"]);
    fake.log(topic, index, |log| {
        log.batches = (0..batches).map(|base| Bytes::from(one(base))).collect();
        log.high_watermark = batches;
    });
    one(0).len()
}

#[test]
fn limits_hold_but_for_the_first_batch_of_the_answer() {
    let fake = Fake::default().with_topic("a", 1, 3);
    let size = fill(&fake, "a", 0, 4);
    fill(&fake, "a", 1, 4);
    fill(&fake, "a", 2, 4);
    let limit = i32::try_from(2 * size + 1).expect("small");
    let response = fetched(&fake, &to_fetch(&[(1, 0, 0, limit), (1, 1, 1, limit), (1, 2, 4, limit)]));
    assert_eq!(found(&response), [(0, 4, 2 * size), (0, 4, 2 * size), (0, 4, 0)]);
    let request = to_fetch(&[(1, 0, 0, 1), (1, 1, 0, 1), (1, 2, 0, 1)]).with_max_bytes(1);
    let mut sizes: Vec<usize> = found(&fetched(&fake, &request)).iter().map(|found| found.2).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [0, 0, size], "one batch, whatever its size, and no other");
    let request = to_fetch(&[(1, 0, 0, i32::MAX), (1, 1, 0, i32::MAX)]).with_max_bytes(5 * limit / 2);
    let total: usize = found(&fetched(&fake, &request)).iter().map(|found| found.2).sum();
    assert_eq!(total, 5 * size, "as much as the request allows");
}

#[test]
fn a_fetch_waits_for_min_bytes_and_reads_only_what_advanced() {
    let fake = Fake::default().with_topic("a", 1, 2);
    fill(&fake, "a", 0, 0);
    for batches in [1, 2] {
        fake.wakes.borrow_mut().push_back(Box::new(move |fake: &Fake| {
            fill(fake, "a", 1, batches);
            let waits = fake.waits.borrow();
            let at = waits.last().expect("a wait").iter().position(|p| p.partition == fake.partition("a", 1));
            vec![at.expect("it is waited for")]
        }));
    }
    let size = i32::try_from(batch(&Header::default(), &["x"]).len()).expect("small");
    let request = to_fetch(&[(1, 0, 0, 9_999), (1, 1, 0, 9_999)]).with_min_bytes(size + 1);
    let response = fetched(&fake, &request);
    assert_eq!(found(&response)[1].1, 2);
    let offsets: Vec<Vec<i64>> = fake
        .waits
        .borrow()
        .iter()
        .map(|wait| {
            let mut o: Vec<_> = wait.iter().map(|p| p.offset.get()).collect();
            o.sort_unstable();
            o
        })
        .collect();
    assert_eq!(offsets, [[0, 0], [0, 1]], "each waits at its high watermark");
    assert_eq!(fake.fetches.borrow().len(), 4, "both once, then the one that advanced");
}

#[test]
fn at_the_deadline_there_is_an_answer_all_the_same() {
    let fake = Fake::default().with_topic("a", 1, 1);
    assert_eq!(found(&fetched(&fake, &to_fetch(&[(1, 0, 0, 100)]))), [(0, 0, 0)]);
    assert_eq!((fake.clock.get(), fake.waits.borrow().len()), (1_500, 1));
    for request in [
        to_fetch(&[(1, 0, 0, 100)]).with_max_wait_ms(0),
        to_fetch(&[(1, 0, 0, 100)]).with_max_wait_ms(i32::MIN),
        to_fetch(&[(1, 0, 0, 100)]).with_min_bytes(0),
        to_fetch(&[(1, 0, 0, 100)]).with_min_bytes(-1),
        to_fetch(&[(1, 0, 7, 100)]),
        to_fetch(&[(8, 0, 0, 100)]),
        to_fetch(&[]),
    ] {
        let fake = Fake::default().with_topic("a", 1, 1);
        fetched(&fake, &request);
        assert!(fake.waits.borrow().is_empty(), "{request:?}");
    }
}

#[test]
fn what_cannot_be_read_says_why_and_knows_no_offsets() {
    let fake = Fake::default().with_topic("a", 1, 1);
    fake.log("a", 0, |log| (log.log_start, log.high_watermark) = (3, 9));
    let request = to_fetch(&[(1, 0, 2, 9), (1, 1, 0, 9), (1, -1, 0, 9), (8, 0, 0, 9)]);
    assert_eq!(found(&fetched(&fake, &request)), [(1, -1, 0), (3, -1, 0), (3, -1, 0), (100, -1, 0)]);
    for (epoch, code) in [(1, 74), (3, 75), (2, 0), (-1, 0)] {
        let mut request = to_fetch(&[(1, 0, 9, 9)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        assert_eq!(found(&fetched(&fake, &request))[0].0, code, "{epoch}");
    }
}

#[test]
fn a_client_with_an_old_epoch_is_told_who_leads() {
    let fake = Fake::default().with_topic("a", 1, 1);
    let mut request = to_fetch(&[(1, 0, 0, 9)]);
    request.topics[0].partitions[0].current_leader_epoch = 1;
    let response = fetched(&fake, &request);
    let leader = &response.responses[0].partitions[0].current_leader;
    assert_eq!((leader.leader_id.0, leader.leader_epoch), (1, 2));
    assert_eq!(response.node_endpoints.len(), 1);
    let earlier: m::FetchResponse = ask(1, 15, &request, &fake);
    assert!(earlier.node_endpoints.is_empty());
}

#[test]
fn a_log_that_left_ours_is_told_where() {
    let fake = Fake::default().with_topic("a", 1, 1);
    fake.log("a", 0, |log| {
        log.high_watermark = 9;
        log.ends = [(1, (1, 5))].into();
    });
    let mut request = to_fetch(&[(1, 0, 7, 9)]);
    request.topics[0].partitions[0].last_fetched_epoch = 1;
    let response = fetched(&fake, &request);
    let partition = &response.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 9));
    assert_eq!((partition.diverging_epoch.epoch, partition.diverging_epoch.end_offset), (1, 5));
    request.topics[0].partitions[0].last_fetched_epoch = 40;
    assert_eq!(found(&fetched(&fake, &request))[0].0, 1, "an epoch to come");
    assert!(fake.waits.borrow().is_empty(), "both are told at once");
}

#[test]
fn a_partition_named_twice_is_fetched_once_as_it_is_named_last() {
    let fake = Fake::default().with_topic("a", 1, 1);
    fake.log("a", 0, |log| log.high_watermark = 9);
    let response = fetched(&fake, &to_fetch(&[(1, 0, 50, 9), (1, 0, 9, 9)]));
    assert_eq!(found(&response), [(0, 9, 0)]);
}

#[test]
fn there_are_no_sessions_and_no_followers() {
    let fake = Fake::default().with_topic("a", 1, 1);
    for (id, epoch, code) in [(0, 0, 0), (0, -1, 0), (5, -1, 0), (5, 1, 70), (0, i32::MAX, 70), (0, -2, 70)] {
        let response =
            fetched(&fake, &to_fetch(&[(1, 0, 0, 9)]).with_session_id(id).with_session_epoch(epoch));
        assert_eq!((response.error_code, response.session_id), (code, 0), "{id} {epoch}");
        assert_eq!(response.responses.is_empty(), code != 0);
    }
    let mut request = to_fetch(&[(1, 0, 0, 9)]);
    request.replica_state.replica_id = m::BrokerId(2);
    assert_eq!(found(&fetched(&fake, &request))[0].0, 6);
}
