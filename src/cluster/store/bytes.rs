//! Reading and writing fixed layouts: little-endian, bounds checked, no allocation beyond what is there.

use bytes::{BufMut, Bytes};

/// The bytes ended early, or a length in them exceeds its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cluster) struct Malformed;

/// Takes values off the front of a shared slice.
#[derive(Debug)]
pub(in crate::cluster) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(in crate::cluster) fn new(bytes: Bytes) -> Reader {
        Reader { rest: bytes }
    }

    pub(in crate::cluster) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let head: [u8; N] = self.rest.first_chunk().copied().ok_or(Malformed)?;
        self.rest = self.rest.slice(N..);
        Ok(head)
    }

    pub(in crate::cluster) fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(in crate::cluster) fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    pub(in crate::cluster) fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(in crate::cluster) fn i32(&mut self) -> Result<i32, Malformed> {
        self.array().map(i32::from_le_bytes)
    }

    pub(in crate::cluster) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(in crate::cluster) fn bytes16(&mut self) -> Result<[u8; 16], Malformed> {
        self.array()
    }

    /// A slice of `len` bytes, refused when longer than `max` or than what is left.
    pub(in crate::cluster) fn slice(&mut self, len: u32, max: usize) -> Result<Bytes, Malformed> {
        let len = usize::try_from(len).map_err(|_| Malformed)?;
        if len > max || len > self.rest.len() {
            return Err(Malformed);
        }
        Ok(self.rest.split_to(len))
    }

    /// A string behind its 16-bit length.
    pub(in crate::cluster) fn string(&mut self, max: usize) -> Result<String, Malformed> {
        let len = u32::from(self.u16()?);
        let bytes = self.slice(len, max)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
    }
}

/// Appends values to a growing buffer.
#[derive(Debug, Default)]
pub(in crate::cluster) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(in crate::cluster) fn new() -> Writer {
        Writer::default()
    }

    pub(in crate::cluster) fn u8(&mut self, value: u8) {
        self.bytes.put_u8(value);
    }

    pub(in crate::cluster) fn u16(&mut self, value: u16) {
        self.bytes.put_u16_le(value);
    }

    pub(in crate::cluster) fn u32(&mut self, value: u32) {
        self.bytes.put_u32_le(value);
    }

    pub(in crate::cluster) fn i32(&mut self, value: i32) {
        self.bytes.put_i32_le(value);
    }

    pub(in crate::cluster) fn u64(&mut self, value: u64) {
        self.bytes.put_u64_le(value);
    }

    pub(in crate::cluster) fn raw(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// A string behind its 16-bit length. The caller has checked its own bound, which is below 64 KiB.
    pub(in crate::cluster) fn string(&mut self, value: &str) {
        self.u16(u16::try_from(value.len()).expect("the caller bounds strings below 64 KiB"));
        self.raw(value.as_bytes());
    }

    pub(in crate::cluster) fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

/// A length that its caller has bounded well below 4 GiB, as the 32 bits it is written in.
pub(super) fn length_u32(len: usize) -> u32 {
    u32::try_from(len).expect("lengths are bounded before they are written")
}
