//! Kafka's 16-byte identifiers, which name topics and directories.

use std::fmt;

/// An identifier of 16 bytes. All zero means "none".
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The identifier that means "none".
    pub const ZERO: Self = Self([0; 16]);

    /// Whether this is the identifier that means "none".
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

/// As Kafka prints it: base64 with the URL alphabet, without padding, 22 characters.
impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // 22 characters of six bits are 132: four zero bits follow the identifier.
        let number = u128::from_be_bytes(self.0);
        for position in 0..22 {
            let sextet = match position {
                21 => (number & 0b11) << 4,
                _ => number >> (122 - 6 * position),
            };
            let letter = ALPHABET[usize::try_from(sextet & 63).expect("six bits fit")];
            write!(formatter, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_kafka_prints() {
        // The first is a topic of Kafka 4.4, as its tools printed it and its Metadata answered it.
        let topic = [173, 215, 3, 169, 163, 150, 74, 182, 129, 247, 56, 211, 124, 162, 227, 3];
        assert_eq!(Uuid(topic).to_string(), "rdcDqaOWSraB9zjTfKLjAw");
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        let one = Uuid(1_u128.to_be_bytes());
        assert_eq!(one.to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
    }
}
