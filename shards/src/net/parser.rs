//! Frames out of received bytes: four bytes of length, big-endian, then so many bytes.
//!
//! A frame that lies in one buffer is a view of it. Any other is gathered in memory of its own, which is taken whole
//! once the length is known and found within the limit, and before a byte of the frame is copied.

use crate::limits::{LARGE_FRAME_BYTES, RECEIVE_AHEAD_BYTES};
use crate::memory::{AlignedBuffer, Slab, Slice};

use super::input::Input;

/// The peer does not speak in frames that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length is negative.
    #[error("a frame of negative length {0}")]
    Negative(i32),
    /// The length is beyond `socket.request.max.bytes`.
    #[error("a frame of {length} bytes, beyond the limit of {limit}{}", spoken(*length))]
    TooLarge {
        /// What the peer announced.
        length: usize,
        /// `socket.request.max.bytes`.
        limit: usize,
    },
}

/// What the peer seems to speak instead of Kafka's protocol, where its first four bytes betray it.
fn spoken(length: usize) -> &'static str {
    match u32::try_from(length).unwrap_or(0).to_be_bytes() {
        [0x16, 0x03, ..] => ": the peer seems to speak TLS",
        [b'G', b'E', b'T', b' '] | [b'P', b'O', b'S', b'T'] | [b'H', b'E', b'A', b'D'] => {
            ": the peer seems to speak HTTP"
        }
        _ => "",
    }
}

/// What the received bytes amount to.
pub(super) enum Step {
    /// A frame, without its length.
    Frame(Slice),
    /// No whole frame.
    NeedInput,
    /// A frame whose memory is not to be had now. The input stays as it is.
    NeedMemory,
}

/// A frame that is being gathered in its own memory.
pub(super) struct Body {
    pub(super) buffer: AlignedBuffer,
    pub(super) filled: usize,
    pub(super) length: usize,
}

impl Body {
    /// How far a receive into the body may go: somewhat beyond the frame, into the next ones.
    pub(super) fn receive_until(&self) -> usize {
        self.buffer.capacity().min(self.length + RECEIVE_AHEAD_BYTES)
    }
}

/// One connection's parser.
pub(super) struct Parser {
    header: [u8; 4],
    header_filled: usize,
    body: Option<Body>,
    request_bytes_max: usize,
}

impl Parser {
    pub(super) fn new(request_bytes_max: usize) -> Parser {
        Parser { header: [0; 4], header_filled: 0, body: None, request_bytes_max }
    }

    /// Takes the next frame out of `input`; `memory` is where frames of several buffers go, if there may be such now.
    pub(super) fn next(&mut self, input: &mut Input, memory: Option<&Slab>) -> Result<Step, FrameError> {
        if self.body.is_none() {
            self.header_filled += input.copy_to(&mut self.header[self.header_filled..]);
            if self.header_filled < self.header.len() {
                return Ok(Step::NeedInput);
            }
            let length = self.length()?;
            if let Some(frame) = input.take_in_place(length) {
                self.header_filled = 0;
                return Ok(Step::Frame(frame));
            }
            let ahead = if length >= LARGE_FRAME_BYTES { RECEIVE_AHEAD_BYTES } else { 0 };
            let taken = memory.and_then(|slab| slab.take(length + ahead).or_else(|| slab.take(length)));
            let Some(buffer) = taken else { return Ok(Step::NeedMemory) };
            self.header_filled = 0;
            self.body = Some(Body { buffer, filled: 0, length });
        }
        Ok(self.gather(input))
    }

    /// Copies input into the frame being gathered.
    fn gather(&mut self, input: &mut Input) -> Step {
        let mut body = self.body.take().expect("called with a body");
        body.filled += input.copy_to(&mut body.buffer[body.filled..body.length]);
        if body.filled < body.length {
            self.body = Some(body);
            return Step::NeedInput;
        }
        let length = body.length;
        body.buffer.set_length(length);
        Step::Frame(body.buffer.freeze())
    }

    /// Takes the frame being gathered out, to receive into it, if at least `bytes` of it are missing.
    pub(super) fn lend_body(&mut self, bytes: usize) -> Option<Body> {
        self.body.take_if(|body| body.length - body.filled >= bytes)
    }

    /// Takes a lent body back. Once whole it is a frame, and what was received beyond it is returned, too.
    pub(super) fn return_body(&mut self, mut body: Body) -> Option<(Slice, Slice)> {
        assert!(self.body.is_none(), "one frame is gathered at a time");
        if body.filled < body.length {
            self.body = Some(body);
            return None;
        }
        body.buffer.set_length(body.filled);
        let (length, filled) = (body.length, body.filled);
        let all = body.buffer.freeze();
        Some((all.narrow(0..length), all.narrow(length..filled)))
    }

    /// Whether at least `bytes` bytes of the frame being gathered are missing.
    pub(super) fn is_missing(&self, bytes: usize) -> bool {
        self.body.as_ref().is_some_and(|body| body.length - body.filled >= bytes)
    }

    /// Whether a frame has begun.
    pub(super) fn is_mid_frame(&self) -> bool {
        self.header_filled > 0 || self.body.is_some()
    }

    /// Gives up the frame being gathered.
    pub(super) fn clear(&mut self) {
        self.body = None;
    }

    fn length(&self) -> Result<usize, FrameError> {
        let length = i32::from_be_bytes(self.header);
        let length = usize::try_from(length).map_err(|_| FrameError::Negative(length))?;
        if length > self.request_bytes_max {
            return Err(FrameError::TooLarge { length, limit: self.request_bytes_max });
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in frames {
            bytes.extend_from_slice(&u32::try_from(frame.len()).expect("short").to_be_bytes());
            bytes.extend_from_slice(frame);
        }
        bytes
    }

    fn parse_all(parser: &mut Parser, input: &mut Input, slab: &Slab) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        loop {
            match parser.next(input, Some(slab)).expect("well-formed") {
                Step::Frame(frame) => frames.push(frame.to_vec()),
                Step::NeedInput => return frames,
                Step::NeedMemory => panic!("there is memory"),
            }
        }
    }

    proptest! {
        #![proptest_config(crate::testing::seeded())]

        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..20),
            cuts in proptest::collection::vec(1..97usize, 1..40),
        ) {
            let bytes = framed(&frames);
            let slab = Slab::new(1 << 20);
            let (mut parser, mut input) = (Parser::new(1000), Input::default());
            let (mut out, mut at) = (Vec::new(), 0);
            for cut in cuts.iter().cycle() {
                let end = (at + cut).min(bytes.len());
                input.push(Slice::from_vec(bytes[at..end].to_vec()));
                out.extend(parse_all(&mut parser, &mut input, &slab));
                at = end;
                if at == bytes.len() { break }
            }
            prop_assert_eq!(out, frames);
            prop_assert!(!parser.is_mid_frame() && input.bytes() == 0);
            prop_assert_eq!(slab.bytes_lent(), 0);
        }
    }

    #[test]
    fn a_frame_in_one_buffer_is_a_view_of_it() {
        let (mut parser, mut input) = (Parser::new(1000), Input::default());
        let buffer = Slice::from_vec(framed(&[b"hello".to_vec(), b"world".to_vec()]));
        input.push(buffer.clone());
        for at in [4, 13] {
            let Ok(Step::Frame(frame)) = parser.next(&mut input, None) else { panic!("a frame") };
            assert_eq!(frame.as_ptr(), buffer[at..].as_ptr());
        }
    }

    #[test]
    fn lengths_are_checked_before_memory_is_taken() {
        let slab = Slab::new(1 << 20);
        for (header, error) in [
            ((-1i32).to_be_bytes(), FrameError::Negative(-1)),
            (i32::MAX.to_be_bytes(), FrameError::TooLarge { length: i32::MAX as usize, limit: 1000 }),
            (1001i32.to_be_bytes(), FrameError::TooLarge { length: 1001, limit: 1000 }),
        ] {
            let (mut parser, mut input) = (Parser::new(1000), Input::default());
            input.push(Slice::from_vec(header.to_vec()));
            assert_eq!(parser.next(&mut input, Some(&slab)).err(), Some(error));
            assert_eq!(slab.bytes_lent(), 0);
        }
    }

    #[test]
    fn a_frame_waits_for_memory_and_goes_on_where_it_was() {
        let slab = Slab::new(8192);
        let (mut parser, mut input) = (Parser::new(8000), Input::default());
        let frame = vec![7; 6000];
        let bytes = framed(std::slice::from_ref(&frame));
        input.push(Slice::from_vec(bytes[..3000].to_vec()));
        let other = slab.take(1).expect("room");
        assert!(matches!(parser.next(&mut input, Some(&slab)), Ok(Step::NeedMemory)));
        input.detach();
        drop(other);
        input.push(Slice::from_vec(bytes[3000..].to_vec()));
        assert_eq!(parse_all(&mut parser, &mut input, &slab), [frame]);
    }

    #[test]
    fn another_protocol_is_named() {
        let told =
            |bytes: [u8; 4]| FrameError::TooLarge { length: u32::from_be_bytes(bytes) as usize, limit: 1000 };
        assert!(told([0x16, 3, 1, 0]).to_string().ends_with(": the peer seems to speak TLS"));
        assert!(told(*b"GET ").to_string().ends_with(": the peer seems to speak HTTP"));
        assert!(told(*b"\x7f\xff\xff\xff").to_string().ends_with("the limit of 1000"));
    }
}
