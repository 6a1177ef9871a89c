//! Loads the captured frames. How they were captured: `frames/PROVENANCE.md`.

use corelane::wire::header::{RequestHeader, RequestHeaderVersion};
use corelane::wire::{Encoding, api_versions, fetch, produce};

/// One captured exchange. Frames are without their length, which the loader has checked.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) api: &'static str,
    pub(crate) version: i16,
    pub(crate) client: String,
    pub(crate) request: Vec<u8>,
    pub(crate) response: Option<Vec<u8>>,
}

impl Exchange {
    /// Where the body of the request begins.
    pub(crate) fn body_at(&self) -> usize {
        self.header().body_at
    }

    pub(crate) fn header(&self) -> RequestHeader<'_> {
        let encoding = Encoding::of(self.version, flexible_from(self.api));
        RequestHeader::read(&self.request, RequestHeaderVersion::of(encoding)).expect("a captured header")
    }

    /// What a failed comparison prints.
    pub(crate) fn label(&self) -> String {
        format!("{} {} of {}", self.api, self.version, self.client)
    }
}

/// The first flexible version of each captured API, after Kafka's message definitions.
fn flexible_from(api: &str) -> i16 {
    match api {
        "produce" => produce::FLEXIBLE_FROM,
        "fetch" => fetch::FLEXIBLE_FROM,
        "api_versions" => api_versions::FLEXIBLE_FROM,
        "metadata" => 9,
        "list_offsets" => 6,
        "create_topics" => 5,
        "delete_topics" | "offset_for_leader_epoch" | "describe_configs" => 4,
        "init_producer_id" => 2,
        "find_coordinator" => 3,
        "describe_cluster" => 0,
        unknown => panic!("no such API was captured: {unknown}"),
    }
}

macro_rules! captured {
    ($($api:literal),*) => {
        /// Every captured exchange.
        pub(crate) fn all() -> Vec<Exchange> {
            let mut exchanges = Vec::new();
            $(exchanges.extend(parse($api, include_str!(concat!("frames/", $api, ".frames"))));)*
            exchanges
        }
    };
}

captured!(
    "produce",
    "fetch",
    "list_offsets",
    "metadata",
    "api_versions",
    "create_topics",
    "delete_topics",
    "init_producer_id",
    "offset_for_leader_epoch",
    "describe_configs",
    "describe_cluster",
    "find_coordinator"
);

/// The captured exchanges of one API.
pub(crate) fn of(api: &str) -> Vec<Exchange> {
    let exchanges: Vec<_> = all().into_iter().filter(|exchange| exchange.api == api).collect();
    assert!(!exchanges.is_empty(), "nothing captured of {api}");
    exchanges
}

fn parse(api: &'static str, text: &str) -> Vec<Exchange> {
    let mut exchanges: Vec<Exchange> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (kind, rest) = line.split_once(' ').expect("a kind and its text");
        match kind {
            "exchange" => {
                let (version, client) = rest.split_once(' ').expect("a version and a client");
                let version = version.parse().expect("a version");
                let (request, response) = (Vec::new(), None);
                exchanges.push(Exchange { api, version, client: client.to_owned(), request, response });
            }
            ">" => exchanges.last_mut().expect("an exchange before").request = frame(rest),
            "<" => exchanges.last_mut().expect("an exchange before").response = Some(frame(rest)),
            _ => panic!("{api}: not a line of a frames file: {line}"),
        }
    }
    exchanges
}

fn frame(hexadecimal: &str) -> Vec<u8> {
    let digits = hexadecimal.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(text, 16).expect("two hexadecimal digits")
    };
    let mut bytes: Vec<u8> = digits.map(byte).collect();
    let frame = bytes.split_off(4);
    let length = u32::from_be_bytes(bytes.try_into().expect("four bytes of length"));
    assert_eq!(length as usize, frame.len(), "a whole frame");
    frame
}
