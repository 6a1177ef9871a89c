//! Bounds on what a request makes the handlers build, beside those of the frame's own length.

use kafka_protocol::protocol::StrBytes;

use super::{CloseReason, Request};
use crate::wire::Error;
use crate::wire::guard::ELEMENTS_MAX;

/// The longest message for people, in bytes: some repeat what the request says, which may be long.
const MESSAGE_BYTES_MAX: usize = 1024;

/// Refuses a request of more topics and partitions together than any API's guard lets through. The requests that are
/// read by hand have no guard.
pub(super) fn check_elements(request: &Request<'_>, topics_and_partitions: usize) -> Result<(), CloseReason> {
    if topics_and_partitions <= ELEMENTS_MAX {
        return Ok(());
    }
    let (what, at) = ("topics and partitions", request.header.body_at);
    Err(Error::TooManyElements { what, at, limit: ELEMENTS_MAX }.into())
}

/// A message for people, cut where it becomes too long.
pub(super) fn message(mut text: String) -> StrBytes {
    text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
    StrBytes::from_string(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_between_letters() {
        assert_eq!(message("short".to_owned()).as_str(), "short");
        let long = message("\u{e9}".repeat(600));
        assert_eq!((long.len(), long.chars().count()), (1024, 512));
        let odd = message(format!("x{}", "\u{e9}".repeat(600)));
        assert_eq!(odd.len(), 1023);
    }
}
