//! The other direction: fields into a growing buffer.
//!
//! What is written is ours, so a value that the format cannot carry is a mistake of ours and stops the program. A name
//! repeated from a request fits the response of the same version; a text made of one may not, and is cut.

use bytes::{BufMut, BytesMut};

use super::{Encoding, Uuid};

/// The longest text for people, such as an error message.
pub const TEXT_BYTES_MAX: usize = 1024;

/// Appends fields in one encoding to a buffer.
#[derive(Debug)]
pub struct Writer {
    buffer: BytesMut,
    encoding: Encoding,
}

impl Writer {
    /// A writer into `buffer`, behind what it already holds.
    pub fn new(buffer: BytesMut, encoding: Encoding) -> Self {
        Self { buffer, encoding }
    }

    /// The encoding of lengths.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Writes what follows in another encoding, which only a header's boundary does.
    pub fn set_encoding(&mut self, encoding: Encoding) {
        self.encoding = encoding;
    }

    /// How many bytes have been written, with those the buffer came with.
    pub fn length(&self) -> usize {
        self.buffer.len()
    }

    /// The buffer, with everything written.
    pub fn into_buffer(self) -> BytesMut {
        self.buffer
    }

    /// Overwrites four bytes written before, such as the length of the frame.
    pub fn patch_i32(&mut self, at: usize, value: i32) {
        self.buffer[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Two bytes, signed.
    pub fn i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// Four bytes, signed.
    pub fn i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// An identifier of 16 bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.put_slice(&value.0);
    }

    /// An unsigned variable-length integer.
    pub fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    fn compact_length(&mut self, length: Option<usize>) {
        let stored = length.map_or(0, |length| length + 1);
        self.unsigned_varint(u32::try_from(stored).expect("no length of ours reaches 4 GiB"));
    }

    /// A string that may be null.
    pub fn nullable_string(&mut self, value: Option<&str>) {
        let length = value.map(str::len);
        match self.encoding {
            Encoding::Flexible => self.compact_length(length),
            Encoding::Classic => {
                let stored =
                    length.map(|length| i16::try_from(length).expect("a string of ours fits 32 KiB"));
                self.i16(stored.unwrap_or(-1));
            }
        }
        self.buffer.put_slice(value.unwrap_or_default().as_bytes());
    }

    /// A text for people that may be null, cut to [`TEXT_BYTES_MAX`]: it may quote what a peer sent, at any length.
    pub fn nullable_text(&mut self, value: Option<&str>) {
        self.nullable_string(value.map(|text| &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]));
    }

    /// A string.
    pub fn string(&mut self, value: &str) {
        self.nullable_string(Some(value));
    }

    /// The length of an array or of a blob that may be null.
    pub fn nullable_count(&mut self, count: Option<usize>) {
        match self.encoding {
            Encoding::Flexible => self.compact_length(count),
            Encoding::Classic => {
                let stored = count.map(|count| i32::try_from(count).expect("no array of ours reaches 2 Gi"));
                self.i32(stored.unwrap_or(-1));
            }
        }
    }

    /// The length of an array or of a blob.
    pub fn count(&mut self, count: usize) {
        self.nullable_count(Some(count));
    }

    /// Ends a structure without tagged fields.
    pub fn no_tags(&mut self) {
        self.tag_count(0);
    }

    /// How many tagged fields follow; nothing in the classic encoding.
    pub fn tag_count(&mut self, count: u32) {
        if self.encoding == Encoding::Flexible {
            self.unsigned_varint(count);
        } else {
            assert_eq!(count, 0, "the classic encoding has no tagged fields");
        }
    }

    /// One tagged field, whose value `write` writes.
    pub fn tag(&mut self, number: u32, write: impl FnOnce(&mut Writer)) {
        let mut field = Writer::new(BytesMut::new(), self.encoding);
        write(&mut field);
        self.unsigned_varint(number);
        self.unsigned_varint(u32::try_from(field.length()).expect("no tagged field of ours reaches 4 GiB"));
        self.buffer.put_slice(&field.buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(encoding: Encoding, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new(BytesMut::new(), encoding);
        write(&mut writer);
        writer.into_buffer().to_vec()
    }

    #[test]
    fn variable_length_integers_are_written_as_they_are_read() {
        for value in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, u32::MAX] {
            let bytes = written(Encoding::Flexible, |writer| writer.unsigned_varint(value));
            let mut reader = crate::wire::Reader::new(&bytes, 0, Encoding::Flexible);
            assert_eq!(reader.unsigned_varint("n"), Ok(value));
            assert_eq!(reader.left(), 0);
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let long = "\u{e9}".repeat(40_000);
        let bytes = written(Encoding::Classic, |writer| writer.nullable_text(Some(&long)));
        assert_eq!(bytes.len(), 2 + TEXT_BYTES_MAX);
        let odd = format!("x{long}");
        let bytes = written(Encoding::Classic, |writer| writer.nullable_text(Some(&odd)));
        assert_eq!(bytes.len(), 2 + TEXT_BYTES_MAX - 1);
        assert!(std::str::from_utf8(&bytes[2..]).is_ok());
    }
}
