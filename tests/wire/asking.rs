//! Requests as the tests of our handlers write them, and their answers read back.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use crate::fake::{Fake, answer};

pub(crate) fn frame<R: Encodable>(key: i16, version: i16, is_flexible: bool, body: &R) -> Vec<u8> {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&7_i32.to_be_bytes());
    frame.extend_from_slice(&(-1_i16).to_be_bytes());
    if is_flexible {
        frame.extend_from_slice(&[0]);
    }
    body.encode(&mut frame, version).expect("a body of this version");
    frame.to_vec()
}

/// Sends a request in a flexible version and reads the answer.
pub(crate) fn ask<R: Encodable, A: Decodable>(key: i16, version: i16, body: &R, fake: &Fake) -> A {
    let answer = answer(&frame(key, version, true, body), fake).expect("not closed").expect("an answer");
    A::decode(&mut Bytes::from(answer).slice(5..), version).expect("a whole answer")
}

pub(crate) fn text(value: &str) -> StrBytes {
    StrBytes::from_string(value.to_owned())
}

pub(crate) fn name(value: &str) -> TopicName {
    text(value).into()
}
