//! The primitive types of Kafka's protocol: a writer and a reader for fixed-width integers, varints, strings, byte
//! strings, arrays and tagged fields, each in its classic and its compact ("flexible") encoding.
//!
//! A [`Writer`] and a [`Reader`] are told once whether the version at hand is flexible; the messages then name a field's
//! type and never its encoding.
//!
//! Invariant: the reader trusts no length. A count or a length is compared with the bytes that remain before anything
//! is allocated or sliced, so a hostile peer costs at most a small multiple of the bytes that it really sent.

/// Why a received message could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A field ends beyond the message.
    #[error("a field of {needed} bytes does not fit into the {remaining} bytes left")]
    Truncated {
        /// Bytes that the field needs, at the least.
        needed: usize,
        /// Bytes that were left of the message.
        remaining: usize,
    },
    /// A length below zero where null is not allowed, or below -1 anywhere.
    #[error("a length of {0} is not legal here")]
    Length(i64),
    /// A variable-length integer with more bytes or more bits than its type holds.
    #[error("a variable-length integer is longer than its type")]
    Varint,
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A boolean that is neither 0 nor 1.
    #[error("a boolean of value {0}")]
    Boolean(u8),
    /// Bytes are left behind the last field.
    #[error("{0} bytes are left behind the last field")]
    Trailing(usize),
    /// Record batch bytes that break the format of magic 2.
    #[error("record batch: {0}")]
    Batch(&'static str),
    /// A record batch whose stored checksum is not that of its bytes.
    #[error(
        "record batch at offset {base_offset}: checksum stored {stored:#010x}, computed {computed:#010x}"
    )]
    Checksum {
        /// The batch's base offset.
        base_offset: i64,
        /// The CRC32C in the batch's header.
        stored: u32,
        /// The CRC32C of the bytes from the attributes on.
        computed: u32,
    },
}

/// A topic's id: 16 bytes, all zero when absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The id that stands for "none".
    pub const NONE: Self = Self([0; 16]);

    /// Whether this is the absent id.
    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// Writes one message of one version.
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    flexible: bool,
}

impl Writer {
    /// A writer for a message whose version is flexible or not.
    pub fn new(flexible: bool) -> Self {
        Self::appending(Vec::new(), flexible)
    }

    /// A writer that continues behind `bytes`.
    pub fn appending(bytes: Vec<u8>, flexible: bool) -> Self {
        Self { bytes, flexible }
    }

    /// What has been written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A boolean, one byte.
    pub fn boolean(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// A signed 8-bit integer.
    pub fn int8(&mut self, value: i8) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian 16-bit integer.
    pub fn int16(&mut self, value: i16) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian 32-bit integer.
    pub fn int32(&mut self, value: i32) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian unsigned 32-bit integer.
    pub fn uint32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// A big-endian 64-bit integer.
    pub fn int64(&mut self, value: i64) {
        self.raw(&value.to_be_bytes());
    }

    /// Bytes as they are.
    pub fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// An unsigned variable-length integer: seven bits a byte, lowest first, the high bit set on all but the last.
    pub fn unsigned_varint(&mut self, value: u32) {
        self.unsigned_varlong(u64::from(value));
    }

    /// A signed 32-bit integer, zigzag, then as [`Writer::unsigned_varint`].
    pub fn varint(&mut self, value: i32) {
        self.varlong(i64::from(value));
    }

    /// A signed 64-bit integer, zigzag, then variable-length.
    pub fn varlong(&mut self, value: i64) {
        self.unsigned_varlong((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    fn unsigned_varlong(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push((value & 0x7f) as u8);
    }

    /// A topic id.
    pub fn topic_id(&mut self, value: TopicId) {
        self.raw(&value.0);
    }

    /// A string.
    pub fn string(&mut self, value: &str) {
        self.nullable_string(Some(value));
    }

    /// A string or null.
    pub fn nullable_string(&mut self, value: Option<&str>) {
        match (self.flexible, value) {
            (true, _) => self.compact_length(value.map(str::len)),
            (false, None) => self.int16(-1),
            (false, Some(text)) => {
                self.int16(i16::try_from(text.len()).expect("a caller's string is below 32 KiB"));
            }
        }
        self.raw(value.unwrap_or_default().as_bytes());
    }

    /// A byte string or null; `records` fields are these too.
    pub fn nullable_bytes(&mut self, value: Option<&[u8]>) {
        self.count(value.map(<[u8]>::len));
        self.raw(value.unwrap_or_default());
    }

    /// An array.
    pub fn array<T>(&mut self, items: &[T], item: impl FnMut(&mut Self, &T)) {
        self.nullable_array(Some(items), item);
    }

    /// An array or null.
    pub fn nullable_array<T>(&mut self, items: Option<&[T]>, mut item: impl FnMut(&mut Self, &T)) {
        self.count(items.map(<[T]>::len));
        for one in items.unwrap_or_default() {
            item(self, one);
        }
    }

    /// The end of a structure: no tagged fields, in versions that have them.
    pub fn no_tagged_fields(&mut self) {
        if self.flexible {
            self.unsigned_varint(0);
        }
    }

    fn count(&mut self, length: Option<usize>) {
        match (self.flexible, length) {
            (true, _) => self.compact_length(length),
            (false, None) => self.int32(-1),
            (false, Some(n)) => self.int32(i32::try_from(n).expect("a caller's message is below 2 GiB")),
        }
    }

    fn compact_length(&mut self, length: Option<usize>) {
        let plus_one = length.map_or(0, |n| u32::try_from(n + 1).expect("a caller's message is below 4 GiB"));
        self.unsigned_varint(plus_one);
    }
}

/// Reads one message of one version.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    /// A reader of a message whose version is flexible or not.
    pub fn new(bytes: &'a [u8], flexible: bool) -> Self {
        Self { bytes, flexible }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Fails when bytes are left: a whole message has been read.
    pub fn finish(self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing(self.bytes.len())) }
    }

    /// The next `length` bytes.
    pub fn raw(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(length) else {
            return Err(DecodeError::Truncated { needed: length, remaining: self.bytes.len() });
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(DecodeError::Truncated { needed: N, remaining: self.bytes.len() });
        };
        self.bytes = rest;
        Ok(*taken)
    }

    /// A boolean.
    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        match self.fixed::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(DecodeError::Boolean(other)),
        }
    }

    /// A signed 8-bit integer.
    pub fn int8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    /// A big-endian 16-bit integer.
    pub fn int16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    /// A big-endian 32-bit integer.
    pub fn int32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    /// A big-endian unsigned 32-bit integer.
    pub fn uint32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// A big-endian 64-bit integer.
    pub fn int64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    /// An unsigned variable-length integer of 32 bits.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.unsigned_varlong()?).map_err(|_| DecodeError::Varint)
    }

    /// A signed (zigzag) variable-length integer of 32 bits.
    pub fn varint(&mut self) -> Result<i32, DecodeError> {
        i32::try_from(self.varlong()?).map_err(|_| DecodeError::Varint)
    }

    /// A signed (zigzag) variable-length integer of 64 bits.
    pub fn varlong(&mut self) -> Result<i64, DecodeError> {
        let zigzag = self.unsigned_varlong()?;
        Ok((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed())
    }

    fn unsigned_varlong(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.fixed::<1>()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for the one bit that is left of 64.
            if shift == 63 && byte > 1 {
                return Err(DecodeError::Varint);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint)
    }

    /// A topic id.
    pub fn topic_id(&mut self) -> Result<TopicId, DecodeError> {
        Ok(TopicId(self.fixed()?))
    }

    /// A string.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        self.nullable_string()?.ok_or(DecodeError::Length(-1))
    }

    /// A string or null.
    pub fn nullable_string(&mut self) -> Result<Option<String>, DecodeError> {
        let length =
            if self.flexible { self.compact_length()? } else { classic_length(i64::from(self.int16()?))? };
        let Some(length) = length else { return Ok(None) };
        let text = std::str::from_utf8(self.raw(length)?).map_err(|_| DecodeError::Utf8)?;
        Ok(Some(text.to_owned()))
    }

    /// A byte string or null, as a slice of the message.
    pub fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, DecodeError> {
        match self.count()? {
            Some(length) => self.raw(length).map(Some),
            None => Ok(None),
        }
    }

    /// An array.
    pub fn array<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(item)?.ok_or(DecodeError::Length(-1))
    }

    /// An array or null.
    ///
    /// No item is smaller than a byte, so a count above the bytes that remain is refused. The vector grows as items
    /// are really read: what is allocated follows what was received, not what was claimed.
    pub fn nullable_array<T>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.count()? else { return Ok(None) };
        if count > self.bytes.len() {
            return Err(DecodeError::Truncated { needed: count, remaining: self.bytes.len() });
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(Some(items))
    }

    /// The end of a structure: skips its tagged fields, in versions that have them.
    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(()))
    }

    /// The end of a structure: gives each tagged field to `field`, with a reader of that field's bytes alone. What
    /// `field` leaves unread is skipped, so unknown tags need no care.
    pub fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            let tag = self.unsigned_varint()?;
            let length = self.unsigned_varint()? as usize;
            let mut inner = Reader::new(self.raw(length)?, true);
            field(tag, &mut inner)?;
        }
        Ok(())
    }

    fn count(&mut self) -> Result<Option<usize>, DecodeError> {
        if self.flexible { self.compact_length() } else { classic_length(i64::from(self.int32()?)) }
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok((self.unsigned_varint()? as usize).checked_sub(1))
    }
}

/// A length of the classic encodings, where -1 is null.
fn classic_length(length: i64) -> Result<Option<usize>, DecodeError> {
    match length {
        -1 => Ok(None),
        _ => usize::try_from(length).map(Some).map_err(|_| DecodeError::Length(length)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::new(true);
        write(&mut writer);
        writer.into_bytes()
    }

    #[test]
    fn varints_have_the_bytes_of_protocol_buffers() {
        let unsigned: [(u32, &[u8]); 5] = [
            (0, &[0]),
            (127, &[0x7f]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u32::MAX, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in unsigned {
            assert_eq!(written(|w| w.unsigned_varint(value)), bytes);
            assert_eq!(Reader::new(bytes, true).unsigned_varint(), Ok(value));
        }
        let signed: [(i32, &[u8]); 8] = [
            (0, &[0]),
            (-1, &[1]),
            (1, &[2]),
            (63, &[0x7e]),
            (-64, &[0x7f]),
            (64, &[0x80, 1]),
            (-65, &[0x81, 1]),
            (i32::MIN, &[0xff, 0xff, 0xff, 0xff, 0x0f]),
        ];
        for (value, bytes) in signed {
            assert_eq!(written(|w| w.varint(value)), bytes);
            assert_eq!(Reader::new(bytes, true).varint(), Ok(value));
        }
    }

    #[test]
    fn a_varint_longer_than_its_type_is_refused() {
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x10], true).unsigned_varint(),
            Err(DecodeError::Varint)
        );
        let eleven = [0x80u8; 11];
        assert_eq!(Reader::new(&eleven, true).varlong(), Err(DecodeError::Varint));
        let mut tenth_too_large = [0x80u8; 10];
        tenth_too_large[9] = 2;
        assert_eq!(Reader::new(&tenth_too_large, true).varlong(), Err(DecodeError::Varint));
        assert!(matches!(Reader::new(&[0x80], true).varint(), Err(DecodeError::Truncated { .. })));
    }

    #[test]
    fn compact_lengths_are_one_more_and_null_is_zero() {
        assert_eq!(written(|w| w.string("ab")), [3, b'a', b'b']);
        assert_eq!(written(|w| w.nullable_string(None)), [0]);
        let mut classic = Writer::new(false);
        classic.string("ab");
        classic.nullable_string(None);
        classic.nullable_bytes(None);
        assert_eq!(classic.into_bytes(), [0, 2, b'a', b'b', 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn claimed_lengths_beyond_the_message_are_refused() {
        for flexible in [false, true] {
            let bytes =
                if flexible { vec![0xff, 0xff, 0xff, 0xff, 0x0f] } else { vec![0x7f, 0xff, 0xff, 0xff] };
            let truncated = |result: Result<(), DecodeError>| {
                assert!(matches!(result, Err(DecodeError::Truncated { .. })), "{result:?}");
            };
            truncated(Reader::new(&bytes, flexible).array(Reader::int8).map(|_| ()));
            truncated(Reader::new(&bytes, flexible).nullable_bytes().map(|_| ()));
            truncated(Reader::new(&bytes, flexible).string().map(|_| ()));
        }
        assert_eq!(Reader::new(&[0xff, 0xfe], false).string(), Err(DecodeError::Length(-2)));
        assert_eq!(Reader::new(&[0], true).string(), Err(DecodeError::Length(-1)));
    }

    #[test]
    fn unknown_tagged_fields_are_skipped_and_known_ones_read() {
        // Three fields: tag 7 with two bytes, tag 1 with an int16, tag 300 with none; then a byte behind them.
        let bytes = [3, 7, 2, 9, 9, 1, 2, 0, 5, 0xac, 2, 0, 42];
        let mut reader = Reader::new(&bytes, true);
        let mut known = None;
        reader
            .tagged_fields(|tag, field| {
                if tag == 1 {
                    known = Some(field.int16()?);
                }
                Ok(())
            })
            .unwrap();
        assert_eq!(known, Some(5));
        assert_eq!(reader.int8(), Ok(42));
        assert_eq!(reader.finish(), Ok(()));
    }

    proptest! {
        #![proptest_config(crate::testing::seeded())]

        #[test]
        fn every_primitive_survives_the_round_trip(
            flexible: bool,
            long: i64,
            int: i32,
            unsigned: u32,
            text in proptest::option::of(".{0,40}"),
            blob in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            list in proptest::option::of(proptest::collection::vec(any::<i32>(), 0..200)),
        ) {
            let mut writer = Writer::new(flexible);
            writer.varlong(long);
            writer.varint(int);
            writer.unsigned_varint(unsigned);
            writer.nullable_string(text.as_deref());
            writer.nullable_bytes(blob.as_deref());
            writer.nullable_array(list.as_deref(), |w, v| w.int32(*v));
            writer.no_tagged_fields();
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes, flexible);
            prop_assert_eq!(reader.varlong(), Ok(long));
            prop_assert_eq!(reader.varint(), Ok(int));
            prop_assert_eq!(reader.unsigned_varint(), Ok(unsigned));
            prop_assert_eq!(reader.nullable_string(), Ok(text));
            prop_assert_eq!(reader.nullable_bytes(), Ok(blob.as_deref()));
            prop_assert_eq!(reader.nullable_array(Reader::int32), Ok(list));
            prop_assert_eq!(reader.skip_tagged_fields(), Ok(()));
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }
}
