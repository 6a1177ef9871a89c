//! A frame is four bytes of length and as many bytes of header and body.

use bytes::{Bytes, BytesMut};

use super::header::ResponseHeaderVersion;
use super::{Encoding, Error, Result, Writer};

/// The bytes of a frame's length.
pub const LENGTH_BYTES: usize = 4;

/// The length of the frame that begins with `prefix`, checked against the largest allowed.
pub fn length(prefix: [u8; LENGTH_BYTES], limit: usize) -> Result<usize> {
    let length = i32::from_be_bytes(prefix);
    match usize::try_from(length) {
        Ok(accepted) if accepted <= limit => Ok(accepted),
        _ => Err(Error::FrameLength { length, limit }),
    }
}

/// Begins a response frame: room for the length, then the header. The writer goes on in `body`'s encoding.
pub(super) fn begin(correlation_id: i32, header: ResponseHeaderVersion, body: Encoding) -> Writer {
    let mut writer = Writer::new(BytesMut::with_capacity(128), Encoding::Classic);
    writer.i32(0);
    writer.i32(correlation_id);
    if header == ResponseHeaderVersion::V1 {
        writer.set_encoding(Encoding::Flexible);
        writer.no_tags();
    }
    writer.set_encoding(body);
    writer
}

/// Ends a response frame that lies in the writer whole: fills in its length.
pub(super) fn end(writer: Writer) -> Bytes {
    end_before(writer, 0).freeze()
}

/// Ends a response frame of which `elsewhere` bytes do not lie in the writer.
pub(super) fn end_before(mut writer: Writer, elsewhere: usize) -> BytesMut {
    let length = writer.length() - LENGTH_BYTES + elsewhere;
    writer.patch_i32(0, i32::try_from(length).expect("a response stays below 2 GiB"));
    writer.into_buffer()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_refused_when_negative_or_above_the_limit() {
        assert_eq!(length(7_i32.to_be_bytes(), 7), Ok(7));
        assert_eq!(length(8_i32.to_be_bytes(), 7), Err(Error::FrameLength { length: 8, limit: 7 }));
        assert_eq!(length([0xff; 4], 7), Err(Error::FrameLength { length: -1, limit: 7 }));
    }
}
