//! What a connection receives.

use corelane::api::api_versions::Identity;
use corelane::api::{Answer, Context, Dispatch, dispatch, serve};
use corelane::config::Settings;
use corelane::wire::frame::{LENGTH_BYTES, length};

use fake::Fake;

#[path = "../../tests/wire/fake.rs"]
#[allow(dead_code, reason = "the wire tests ask more of it")]
mod fake;

/// The longest frame. Bytes.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// A log's batch: ten records, uncompressed.
const BATCH: &[u8] = include_bytes!("../../shards/src/format/testdata/none.batch");

thread_local! {
    static SETTINGS: Settings = fake::settings(&[]);
}

/// Serves all frames of `input` as one connection's, over logs in memory: each is answered by a whole frame, or ends the
/// connection, as the end of the input does.
pub fn frame(mut input: &[u8]) {
    let fake = Fake::default().with_topic("t", 1, 2);
    fake.log("t", 0, |log| {
        log.batches.push(BATCH.into());
        log.high_watermark = 10;
    });
    SETTINGS.with(|settings| {
        while let Some((prefix, rest)) = input.split_first_chunk::<LENGTH_BYTES>() {
            let Ok(length) = length(*prefix, FRAME_BYTES_MAX) else { return };
            let Some((frame, rest)) = rest.split_at_checked(length) else { return };
            if !is_served(frame, &fake, settings) {
                return;
            }
            input = rest;
        }
    });
}

/// Whether the connection goes on.
fn is_served(frame: &[u8], fake: &Fake, settings: &Settings) -> bool {
    let identity = Identity { cluster_id: "c", node_id: Some(1) };
    let context = Context { identity, listener: "PLAINTEXT", settings };
    match dispatch(frame) {
        Dispatch::Serve(request) => match fake::run(serve(request, &context, fake)) {
            Answer::Respond(segments) => {
                let answer = segments.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>().concat();
                check_answer(frame, &answer);
                true
            }
            Answer::NoResponse => true,
            Answer::Close(_) => false,
        },
        Dispatch::Answer(answer) => {
            check_answer(frame, &answer);
            true
        }
        Dispatch::Close(_) => false,
    }
}

/// An answer is one whole frame and repeats the request's correlation id.
fn check_answer(request: &[u8], answer: &[u8]) {
    let length = answer.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    assert_eq!(length.map(|length| length as usize + LENGTH_BYTES), Some(answer.len()));
    assert_eq!(answer.get(4..8), request.get(4..8), "the correlation id");
}
