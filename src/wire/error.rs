//! What can be wrong with a peer's bytes.

/// The result of reading a peer's bytes.
pub type Result<T> = std::result::Result<T, Error>;

/// A fault in a peer's bytes: what was being read, and at which byte of the frame it began.
///
/// None of these can be retried. Kafka closes the connection on each of them, and so do we.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// The field does not end inside the frame.
    #[error("{what} at byte {at} needs {needed} bytes, {left} are left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Where it begins in the frame.
        at: usize,
        /// How many bytes it needs.
        needed: usize,
        /// How many bytes there are.
        left: usize,
    },
    /// A variable-length integer does not fit its type.
    #[error("{what} at byte {at} is a variable-length integer that does not fit")]
    VarintOverflow {
        /// The field.
        what: &'static str,
        /// Where it begins in the frame.
        at: usize,
    },
    /// A length or count is below -1, the only negative number that means something.
    #[error("{what} at byte {at} has the length {length}")]
    NegativeLength {
        /// The field.
        what: &'static str,
        /// Where it begins in the frame.
        at: usize,
        /// The length it claims.
        length: i32,
    },
    /// The field is null where this version does not allow it.
    #[error("{what} at byte {at} is null, which this version does not allow")]
    Null {
        /// The field.
        what: &'static str,
        /// Where it begins in the frame.
        at: usize,
    },
    /// An array claims more elements than the bytes left could hold.
    #[error("{what} at byte {at} claims {count} elements of at least {least} bytes, {left} bytes are left")]
    Count {
        /// The field.
        what: &'static str,
        /// Where it begins in the frame.
        at: usize,
        /// How many elements it claims.
        count: usize,
        /// The least number of bytes that one element takes.
        least: usize,
        /// How many bytes there are.
        left: usize,
    },
    /// The request holds more elements, counted over all of its arrays and tags, than we decode.
    #[error("{what} at byte {at} brings the request above {limit} elements")]
    TooManyElements {
        /// The field.
        what: &'static str,
        /// Where it begins in the frame.
        at: usize,
        /// The most elements of one request.
        limit: usize,
    },
    /// A string is not UTF-8.
    #[error("{what} at byte {at} is not UTF-8")]
    Utf8 {
        /// The field.
        what: &'static str,
        /// Where it begins in the frame.
        at: usize,
    },
    /// A frame's length is negative or above the limit.
    #[error("a frame of {length} bytes, {limit} are allowed")]
    FrameLength {
        /// The length it claims.
        length: i32,
        /// The most that is allowed.
        limit: usize,
    },
    /// The codec does not know this version.
    #[error("version {version} of {what} is not known here")]
    Version {
        /// The request.
        what: &'static str,
        /// The version asked of the codec.
        version: i16,
    },
    /// The generated codec refused what the guard had let through.
    #[error("{what} was refused by its decoder")]
    Refused {
        /// The request.
        what: &'static str,
    },
}
