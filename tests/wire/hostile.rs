//! Bytes that mean harm: cut short, with lengths that lie, and at random. They give errors, never a panic, and never
//! reach a decoder that believes their counts.

use corelane::api::{Dispatch, dispatch};
use corelane::wire::header::{RequestHeader, RequestHeaderVersion};
use corelane::wire::{Encoding, Error, api_versions, fetch, generated, guard, produce};
use kafka_protocol::messages::MetadataRequest;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

use crate::frames::{self, Exchange};
use crate::requests::decode_guarded;

/// Reads the request of an exchange as its API does, header included, and visits all that a view shows.
fn read(exchange: &Exchange) -> Result<(), Error> {
    let (frame, version) = (&exchange.request[..], exchange.version);
    dispatch(frame);
    let Some(key) = frame.first_chunk().copied().map(i16::from_be_bytes) else {
        return RequestHeader::read(frame, RequestHeaderVersion::V1).map(drop);
    };
    let flexible_from = match key {
        0 => produce::FLEXIBLE_FROM,
        1 => fetch::FLEXIBLE_FROM,
        18 => api_versions::FLEXIBLE_FROM,
        _ => schema(key).map_or(i16::MAX, |schema| schema.flexible_from),
    };
    let header = RequestHeader::read(frame, RequestHeaderVersion::of(Encoding::of(version, flexible_from)))?;
    let at = header.body_at;
    match key {
        0 => produce::Request::parse(frame, at, version).map(|request| {
            request.topics().for_each(|topic| topic.partitions().for_each(drop));
        }),
        1 => fetch::Request::parse(frame, at, version).map(|request| {
            request.topics().for_each(|topic| topic.partitions().for_each(drop));
            request.forgotten_topics().for_each(|topic| topic.partitions().for_each(drop));
        }),
        18 => api_versions::Request::parse(frame, at, version).map(drop),
        _ => match schema(key) {
            Some(_) => decode_guarded(key, frame, at, version),
            None => Ok(()),
        },
    }
}

fn schema(key: i16) -> Option<&'static guard::Schema> {
    guard::schemas::ALL.into_iter().find(|schema| schema.api_key == key)
}

#[test]
fn every_prefix_of_a_captured_request_is_an_error() {
    let mut prefixes = 0;
    for exchange in frames::all().iter().filter(|exchange| exchange.client != "by-hand") {
        assert_eq!(read(exchange), Ok(()), "{} whole", exchange.label());
        for length in 0..exchange.request.len() {
            let cut = Exchange { request: exchange.request[..length].to_vec(), ..exchange.clone() };
            assert!(read(&cut).is_err(), "{} cut to {length} bytes was read", exchange.label());
            prefixes += 1;
        }
    }
    assert!(prefixes > 10_000, "{prefixes} prefixes");
}

/// Lengths and counts of one, two, four and variable bytes: -1, the least, the greatest.
const LIES: [&[u8]; 8] = [
    &[0xff],
    &[0xff, 0xff],
    &[0x7f, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0x07],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
];

#[test]
fn lies_at_every_place_of_a_captured_request_do_no_harm() {
    let (mut read_on, mut refused) = (0, 0);
    for exchange in &frames::all() {
        for at in 0..exchange.request.len() {
            for lie in LIES {
                let mut request = exchange.request.clone();
                let end = (at + lie.len()).min(request.len());
                request[at..end].copy_from_slice(&lie[..end - at]);
                match read(&Exchange { request, ..exchange.clone() }) {
                    Ok(()) => read_on += 1,
                    Err(_) => refused += 1,
                }
            }
        }
    }
    assert!(read_on > 1_000 && refused > 10_000, "{read_on} read, {refused} refused");
}

/// The four bytes that ask `kafka-protocol` 0.18 for 154 GB. That the error is the guard's shows that the decoder was
/// not asked: its own refusal is [`Error::Refused`].
#[test]
fn the_guard_answers_before_the_decoder_allocates() {
    for body in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0x7f]] {
        let refusal = generated::decode::<MetadataRequest>(body, 0, 1).expect_err("no such array");
        assert!(matches!(refusal, Error::Count { left: 0, .. } | Error::NegativeLength { .. }), "{refusal}");
    }
    let compact = [0xff, 0xff, 0xff, 0xff, 0x0f];
    let refusal = generated::decode::<MetadataRequest>(&compact, 0, 12).expect_err("no such array");
    assert!(matches!(refusal, Error::Count { left: 0, .. }), "{refusal}");
}

#[test]
fn elements_are_counted_over_the_whole_request() {
    // DescribeConfigs 1: two resources of so many empty keys that only both together are too many.
    let keys = guard::ELEMENTS_MAX / 2 + 1;
    let count = i32::try_from(keys).expect("a count").to_be_bytes();
    let resource = [&[2, 0, 0][..], &count, &vec![0; 2 * keys]].concat();
    let body = [&2_i32.to_be_bytes()[..], &resource, &resource, &[0]].concat();
    let refusal = guard::schemas::DESCRIBE_CONFIGS.check(&body, 0, 1).expect_err("too many");
    assert!(matches!(refusal, Error::TooManyElements { limit: guard::ELEMENTS_MAX, .. }), "{refusal}");
    let one = [&1_i32.to_be_bytes()[..], &resource, &[0]].concat();
    assert_eq!(guard::schemas::DESCRIBE_CONFIGS.check(&one, 0, 1), Ok(one.len()));
}

#[test]
fn a_null_is_refused_where_the_version_forbids_it() {
    let null = [0xff, 0xff, 0xff, 0xff];
    assert!(matches!(guard::schemas::METADATA.check(&null, 0, 0), Err(Error::Null { .. })));
    assert_eq!(guard::schemas::METADATA.check(&null, 0, 1), Ok(4));
    assert!(matches!(guard::schemas::DELETE_TOPICS.check(&null, 0, 1), Err(Error::Null { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// Any bytes behind any key and version: an error or a reading, never a panic.
    #[test]
    fn any_bytes_are_read_or_refused(
        key in prop_oneof![Just(0_i16), Just(1), Just(2), Just(3), Just(10), Just(18), Just(19), Just(20), Just(22), Just(23), Just(32), Just(60), any::<i16>()],
        version in prop_oneof![0_i16..18, any::<i16>()],
        // Small bytes are more often believable lengths.
        body in prop::collection::vec(prop_oneof![0_u8..4, any::<u8>()], 0..200),
    ) {
        let request = [&key.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 7, 0xff, 0xff, 0], &body].concat();
        let exchange = Exchange { api: "any", version, client: "proptest".into(), request, response: None };
        let _ = read(&exchange);
        if let Dispatch::Answer(answer) = dispatch(&exchange.request) {
            prop_assert_eq!(answer.len(), 20);
        }
    }
}

/// Lies in whole requests, through the handlers: an answer or a closed connection, and never a panic.
#[test]
fn lies_in_captured_requests_are_answered_or_end_the_connection() {
    let settings = crate::fake::settings(&[]);
    let (mut answered, mut closed) = (0, 0);
    for exchange in &frames::all() {
        for at in exchange.body_at()..exchange.request.len() {
            for lie in [LIES[0], LIES[3], LIES[4]] {
                let mut request = exchange.request.clone();
                let end = (at + lie.len()).min(request.len());
                request[at..end].copy_from_slice(&lie[..end - at]);
                let fake = crate::fake::Fake::default().with_topic("t", 1, 2);
                let Dispatch::Serve(_) = dispatch(&request) else { continue };
                match crate::fake::serve_with(&request, &fake, &settings) {
                    corelane::api::Answer::Close(_) => closed += 1,
                    _ => answered += 1,
                }
            }
        }
    }
    assert!(answered > 1_000 && closed > 1_000, "{answered} answered, {closed} closed");
}

/// More partitions than any guard lets through, in the two requests that are read by hand.
#[test]
fn too_many_partitions_end_the_connection() {
    let partitions = guard::ELEMENTS_MAX;
    let count = i32::try_from(partitions).expect("a count").to_be_bytes();
    let header = |key: u8, version: u8| vec![0, key, 0, version, 0, 0, 0, 7, 0xff, 0xff];
    let topics_of_t = [0, 0, 0, 1, 0, 1, b't'];
    let produce = [
        &header(0, 3)[..],
        &[0xff, 0xff, 0, 1, 0, 0, 0, 0],
        &topics_of_t,
        &count,
        &vec![0xff; 8 * partitions],
    ];
    let fetch = [&header(1, 4)[..], &[0xff; 16], &[0], &topics_of_t, &count, &vec![0; 16 * partitions]];
    for request in [produce.concat(), fetch.concat()] {
        let closed = crate::fake::answer(&request, &crate::fake::Fake::default());
        assert!(
            matches!(closed, Err(corelane::api::CloseReason::Malformed(Error::TooManyElements { .. }))),
            "{closed:?}"
        );
    }
}
