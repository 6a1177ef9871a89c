//! A bounds-checked reader over one frame.
//!
//! Invariants: the position never passes the end of the frame; every returned slice borrows from the frame; a count
//! is returned only when the bytes left could hold that many elements of the least size, so a caller may loop over
//! it or allocate by it. A failed read leaves the reader where the field began or inside it: it is not read on.

use super::{Error, Result, Uuid};

/// The two ways a version lays out lengths, and whether its structures end in tagged fields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// Fixed-width lengths, no tagged fields.
    Classic,
    /// Lengths as unsigned variable-length integers plus one, tagged fields after each structure (KIP-482).
    Flexible,
}

impl Encoding {
    /// The encoding of `version` where versions from `flexible_from` on are flexible.
    pub const fn of(version: i16, flexible_from: i16) -> Self {
        if version >= flexible_from { Self::Flexible } else { Self::Classic }
    }

    /// The fewest bytes that a string takes.
    pub const fn least_string(self) -> usize {
        match self {
            Self::Classic => 2,
            Self::Flexible => 1,
        }
    }

    /// The fewest bytes that an array or a blob takes.
    pub const fn least_array(self) -> usize {
        match self {
            Self::Classic => 4,
            Self::Flexible => 1,
        }
    }

    /// The fewest bytes that the tagged fields of a structure take.
    pub const fn least_tags(self) -> usize {
        match self {
            Self::Classic => 0,
            Self::Flexible => 1,
        }
    }
}

/// Reads a frame from front to back.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    frame: &'a [u8],
    position: usize,
    encoding: Encoding,
}

impl<'a> Reader<'a> {
    /// A reader over `frame` that begins at its byte `position`.
    pub fn new(frame: &'a [u8], position: usize, encoding: Encoding) -> Self {
        Self { frame, position: position.min(frame.len()), encoding }
    }

    /// Where in the frame the next byte is.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The encoding of lengths.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.frame.len() - self.position
    }

    /// The next `length` bytes.
    pub fn take(&mut self, what: &'static str, length: usize) -> Result<&'a [u8]> {
        let (at, left) = (self.position, self.left());
        if length > left {
            return Err(Error::Truncated { what, at, needed: length, left });
        }
        self.position += length;
        Ok(&self.frame[at..at + length])
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let bytes = self.take(what, N)?;
        Ok(bytes.try_into().expect("take returns as many bytes as asked"))
    }

    /// A signed byte.
    pub fn i8(&mut self, what: &'static str) -> Result<i8> {
        self.array(what).map(i8::from_be_bytes)
    }

    /// Two bytes, signed.
    pub fn i16(&mut self, what: &'static str) -> Result<i16> {
        self.array(what).map(i16::from_be_bytes)
    }

    /// Four bytes, signed.
    pub fn i32(&mut self, what: &'static str) -> Result<i32> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self, what: &'static str) -> Result<i64> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// An identifier of 16 bytes.
    pub fn uuid(&mut self, what: &'static str) -> Result<Uuid> {
        self.array(what).map(Uuid)
    }

    /// An unsigned variable-length integer of at most 32 bits.
    pub fn unsigned_varint(&mut self, what: &'static str) -> Result<u32> {
        let at = self.position;
        let wide = self.base128(what, 5)?;
        u32::try_from(wide).map_err(|_| Error::VarintOverflow { what, at })
    }

    /// A zigzag variable-length integer of at most 32 bits.
    pub fn varint(&mut self, what: &'static str) -> Result<i32> {
        let raw = self.unsigned_varint(what)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A zigzag variable-length integer of at most 64 bits.
    pub fn varlong(&mut self, what: &'static str) -> Result<i64> {
        let raw = self.base128(what, 10)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// Groups of seven bits, least significant first; the tenth byte has room for one bit.
    fn base128(&mut self, what: &'static str, bytes_max: u32) -> Result<u64> {
        let at = self.position;
        let mut value = 0_u64;
        for group in 0..bytes_max {
            let byte = self.array::<1>(what)?[0];
            let bits = u64::from(byte & 0x7f);
            if group == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * group);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::VarintOverflow { what, at })
    }

    /// A compact length: stored plus one, zero means null.
    fn compact_length(&mut self, what: &'static str) -> Result<Option<usize>> {
        let raw = self.unsigned_varint(what)?;
        Ok(raw.checked_sub(1).map(|length| length as usize))
    }

    /// A classic length: -1 means null, nothing below.
    fn classic_length(what: &'static str, at: usize, length: i32) -> Result<Option<usize>> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(Error::NegativeLength { what, at, length }),
        }
    }

    fn string_length(&mut self, what: &'static str) -> Result<Option<usize>> {
        let at = self.position;
        match self.encoding {
            Encoding::Flexible => self.compact_length(what),
            Encoding::Classic => {
                let length = self.i16(what)?;
                Self::classic_length(what, at, length.into())
            }
        }
    }

    fn array_length(&mut self, what: &'static str) -> Result<Option<usize>> {
        let at = self.position;
        match self.encoding {
            Encoding::Flexible => self.compact_length(what),
            Encoding::Classic => {
                let length = self.i32(what)?;
                Self::classic_length(what, at, length)
            }
        }
    }

    /// A string that may be null, in the reader's encoding, not checked for UTF-8.
    pub fn nullable_string_bytes(&mut self, what: &'static str) -> Result<Option<&'a [u8]>> {
        match self.string_length(what)? {
            Some(length) => self.take(what, length).map(Some),
            None => Ok(None),
        }
    }

    /// A string that may be null.
    pub fn nullable_string(&mut self, what: &'static str) -> Result<Option<&'a str>> {
        let at = self.position;
        let bytes = self.nullable_string_bytes(what)?;
        bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| Error::Utf8 { what, at })).transpose()
    }

    /// A string.
    pub fn string(&mut self, what: &'static str) -> Result<&'a str> {
        let at = self.position;
        self.nullable_string(what)?.ok_or(Error::Null { what, at })
    }

    /// A blob that may be null, such as records.
    pub fn nullable_bytes(&mut self, what: &'static str) -> Result<Option<&'a [u8]>> {
        match self.array_length(what)? {
            Some(length) => self.take(what, length).map(Some),
            None => Ok(None),
        }
    }

    /// The count of an array that may be null, each of whose elements takes at least `least` bytes.
    pub fn nullable_count(&mut self, what: &'static str, least: usize) -> Result<Option<usize>> {
        assert!(least > 0, "an element without bytes would make any count believable");
        let at = self.position;
        let Some(count) = self.array_length(what)? else { return Ok(None) };
        let left = self.left();
        if count > left / least {
            return Err(Error::Count { what, at, count, least, left });
        }
        Ok(Some(count))
    }

    /// The count of an array, each of whose elements takes at least `least` bytes.
    pub fn count(&mut self, what: &'static str, least: usize) -> Result<usize> {
        let at = self.position;
        self.nullable_count(what, least)?.ok_or(Error::Null { what, at })
    }

    /// How many tagged fields follow; zero in the classic encoding, which has none.
    pub fn tag_count(&mut self) -> Result<usize> {
        const WHAT: &str = "tagged fields";
        if self.encoding == Encoding::Classic {
            return Ok(0);
        }
        let at = self.position;
        let count = self.unsigned_varint(WHAT)? as usize;
        let (least, left) = (2, self.left());
        if count > left / least {
            return Err(Error::Count { what: WHAT, at, count, least, left });
        }
        Ok(count)
    }

    /// One tagged field: its number, and a reader that ends where the field ends.
    pub fn tag(&mut self) -> Result<(u32, Reader<'a>)> {
        let number = self.unsigned_varint("tag")?;
        let length = self.unsigned_varint("tag length")? as usize;
        let position = self.position;
        self.take("tagged field", length)?;
        let field = Reader { frame: &self.frame[..self.position], position, encoding: self.encoding };
        Ok((number, field))
    }

    /// Skips the tagged fields that end a structure.
    pub fn skip_tags(&mut self) -> Result<()> {
        for _ in 0..self.tag_count()? {
            self.tag()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flexible(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, 0, Encoding::Flexible)
    }

    fn classic(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, 0, Encoding::Classic)
    }

    #[test]
    fn variable_length_integers_read_to_their_limits_and_not_beyond() {
        assert_eq!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f]).unsigned_varint("n"), Ok(u32::MAX));
        let beyond = [0xff, 0xff, 0xff, 0xff, 0x1f];
        assert_eq!(flexible(&beyond).unsigned_varint("n"), Err(Error::VarintOverflow { what: "n", at: 0 }));
        let endless = [0x80; 12];
        assert_eq!(flexible(&endless).unsigned_varint("n"), Err(Error::VarintOverflow { what: "n", at: 0 }));
        assert_eq!(flexible(&endless).varlong("n"), Err(Error::VarintOverflow { what: "n", at: 0 }));
        assert_eq!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint("n"), Ok(i32::MIN));
        assert_eq!(flexible(&[3]).varint("n"), Ok(-2));
        let least = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(flexible(&least).varlong("n"), Ok(i64::MIN));
        let tenth_too_large = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        assert_eq!(flexible(&tenth_too_large).varlong("n"), Err(Error::VarintOverflow { what: "n", at: 0 }));
    }

    #[test]
    fn null_is_told_from_empty_and_from_nonsense() {
        assert_eq!(classic(&[0xff, 0xff]).nullable_string("s"), Ok(None));
        assert_eq!(classic(&[0, 0]).nullable_string("s"), Ok(Some("")));
        let below = Error::NegativeLength { what: "s", at: 0, length: -2 };
        assert_eq!(classic(&[0xff, 0xfe]).nullable_string("s"), Err(below));
        assert_eq!(flexible(&[0]).string("s"), Err(Error::Null { what: "s", at: 0 }));
        assert_eq!(flexible(&[1]).string("s"), Ok(""));
        assert_eq!(flexible(&[2, 0xff]).string("s"), Err(Error::Utf8 { what: "s", at: 0 }));
    }

    #[test]
    fn a_count_is_believed_only_as_far_as_the_bytes_reach() {
        let two = [0, 0, 0, 2, 9, 9, 9, 9];
        assert_eq!(classic(&two).count("a", 2), Ok(2));
        let refused = Error::Count { what: "a", at: 0, count: 2, least: 3, left: 4 };
        assert_eq!(classic(&two).count("a", 3), Err(refused));
        assert!(classic(&[0x7f, 0xff, 0xff, 0xff]).count("a", 1).is_err());
        assert!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f]).count("a", 1).is_err());
        assert!(flexible(&[0xff, 0xff, 0xff, 0xff, 0x0f]).tag_count().is_err());
    }

    #[test]
    fn a_tagged_field_cannot_read_past_its_own_end() {
        let mut reader = flexible(&[1, 7, 2, 0xaa, 0xbb, 0xcc]);
        assert_eq!(reader.tag_count(), Ok(1));
        let (number, mut field) = reader.tag().expect("one whole tagged field");
        assert_eq!(number, 7);
        assert_eq!(field.i16("inside"), Ok(i16::from_be_bytes([0xaa, 0xbb])));
        assert_eq!(field.i8("beyond"), Err(Error::Truncated { what: "beyond", at: 5, needed: 1, left: 0 }));
        assert_eq!(reader.left(), 1);
    }
}
