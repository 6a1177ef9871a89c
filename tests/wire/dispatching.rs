//! Which frames are served, which are answered at once, and which end their connection, beside what Kafka 4.4 does.

use corelane::api::api_versions::Identity;
use corelane::api::{CloseReason, Dispatch, Request, api_versions, dispatch};

use crate::frames::{self, Exchange};

fn served(frame: &[u8]) -> Request<'_> {
    match dispatch(frame) {
        Dispatch::Serve(request) => request,
        other => panic!("not served: {other:?}"),
    }
}

fn closed(frame: &[u8]) -> CloseReason {
    match dispatch(frame) {
        Dispatch::Close(reason) => reason,
        other => panic!("not closed: {other:?}"),
    }
}

#[test]
fn a_version_of_api_versions_that_we_do_not_know_gets_kafkas_very_answer() {
    let mut compared = 0;
    for exchange in frames::of("api_versions").iter().filter(|exchange| !(0..=5).contains(&exchange.version))
    {
        let Dispatch::Answer(answer) = dispatch(&exchange.request) else {
            panic!("{} is not answered", exchange.label());
        };
        assert_eq!(Some(&answer[4..]), exchange.response.as_deref(), "{}", exchange.label());
        compared += 1;
    }
    assert!(compared >= 2, "{compared} compared");
}

/// The captured broker is node 1 of this cluster.
const KAFKA: Identity<'_> = Identity { cluster_id: "4L6g3nShT-eMCtK--X86sw", node_id: Some(1) };

fn error_code(frame_body: &[u8]) -> i16 {
    i16::from_be_bytes([frame_body[4], frame_body[5]])
}

#[test]
fn who_is_meant_and_what_software_it_is_are_judged_as_kafka_judges_them() {
    let mut judged = std::collections::BTreeMap::new();
    for exchange in frames::of("api_versions").iter().filter(|exchange| (0..=5).contains(&exchange.version)) {
        let answer = api_versions::handle(&served(&exchange.request), KAFKA);
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", exchange.label()));
        let captured = exchange.response.as_deref().expect("ApiVersions is answered");
        let (ours, kafkas) = (error_code(&answer[4..]), error_code(captured));
        assert_eq!(ours, kafkas, "{}", exchange.label());
        if kafkas != 0 {
            assert_eq!(&answer[4..], captured, "{}", exchange.label());
        }
        *judged.entry(kafkas).or_insert(0) += 1;
    }
    assert_eq!(judged.keys().copied().collect::<Vec<_>>(), [0, 42, 129], "each outcome was captured");
}

#[test]
fn a_port_that_only_bootstraps_does_not_check_the_node() {
    let bootstrap = Identity { node_id: None, ..KAFKA };
    let wrong_node = frames::of("api_versions").into_iter().find(names_node_2).expect("captured");
    assert_eq!(error_code(&handled(&wrong_node, KAFKA)[4..]), 129);
    assert_eq!(error_code(&handled(&wrong_node, bootstrap)[4..]), 0);
}

fn handled(exchange: &Exchange, identity: Identity<'_>) -> bytes::Bytes {
    api_versions::handle(&served(&exchange.request), identity).expect("a whole request")
}

fn names_node_2(exchange: &Exchange) -> bool {
    let parse = corelane::wire::api_versions::Request::parse;
    let body = parse(&exchange.request, exchange.body_at(), exchange.version.clamp(0, 5));
    exchange.version == 5
        && body.is_ok_and(|body| body.node_id == 2 && body.cluster_id == Some(KAFKA.cluster_id))
}

#[test]
fn unknown_keys_and_versions_end_the_connection_as_in_kafka() {
    let frame = |key: i16, version: i16| {
        [&key.to_be_bytes()[..], &version.to_be_bytes(), &7_i32.to_be_bytes(), &[0xff, 0xff, 0]].concat()
    };
    for key in [999, -1, 4, 52] {
        let expected = CloseReason::UnknownApi { api_key: key, api_version: 0 };
        assert_eq!(closed(&frame(key, 0)), expected);
    }
    let expected = CloseReason::UnsupportedVersion { name: "Metadata", served: (0, 13), api_version: 14 };
    assert_eq!(closed(&frame(3, 14)), expected);
    assert!(matches!(closed(&frame(3, 13)[..7]), CloseReason::Malformed(_)));
    assert!(matches!(closed(&[]), CloseReason::Malformed(_)));
}
