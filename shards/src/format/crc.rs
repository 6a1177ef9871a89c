//! CRC32C (Castagnoli), the checksum inside Kafka's record batches. The only file that names the crate which computes it.
//!
//! Files of our own use CRC-32 (IEEE) instead; the two must never be exchanged.
//!
//! Lengthening a checksum is computed here rather than by the crate: its way costs 2 to 5 microseconds, in which the
//! checksum of 128 KiB and more can be computed afresh, while multiplying by precomputed powers costs a fraction of one.

use crc_fast::{CrcAlgorithm, Digest};

/// The polynomial without its leading term, bits reflected: bit 31 is the constant term.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `POWERS[k]` is x to the power of 8 * 2^k: what appending 2^k bytes multiplies a checksum by.
const POWERS: [u32; 64] = powers();

/// The CRC32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// A CRC32C over bytes that arrive in pieces.
pub struct Crc32c(Digest);

impl Crc32c {
    /// The checksum of nothing yet.
    pub fn new() -> Crc32c {
        Crc32c(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Takes in the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of every piece so far.
    pub fn value(&self) -> u32 {
        u32::try_from(self.0.finalize()).expect("a 32-bit checksum fits 32 bits")
    }
}

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c::new()
    }
}

/// The CRC32C of two pieces in a row, from the checksum of each and the second one's length in bytes.
pub fn combine(first: u32, second: u32, second_bytes: usize) -> u32 {
    append_zeros(first, second_bytes) ^ second
}

/// The CRC32C of `new prefix, rest`, from that of `old prefix, rest`, without looking at the rest.
///
/// Both prefixes have the same length; `rest_bytes` is the length of what follows. A checksum that did not match its
/// bytes before does not match them afterwards either: replacing a prefix never hides damage in the rest.
pub fn replace_prefix(whole: u32, old_prefix: u32, new_prefix: u32, rest_bytes: usize) -> u32 {
    whole ^ append_zeros(old_prefix ^ new_prefix, rest_bytes)
}

/// Multiplies `remainder` by x^(8 * bytes).
fn append_zeros(remainder: u32, bytes: usize) -> u32 {
    let mut product = remainder;
    let mut left = bytes;
    while left != 0 {
        product = multiply(POWERS[left.trailing_zeros() as usize], product);
        left &= left - 1;
    }
    product
}

/// The product of two polynomials modulo the CRC's, in reflected bits.
const fn multiply(a: u32, b: u32) -> u32 {
    let mut product = 0;
    let mut shifted = b;
    let mut bit = 32;
    while bit > 0 {
        bit -= 1;
        // Masks instead of branches: the bits of a checksum cannot be predicted.
        product ^= shifted & 0u32.wrapping_sub((a >> bit) & 1);
        shifted = (shifted >> 1) ^ (POLYNOMIAL & 0u32.wrapping_sub(shifted & 1));
    }
    product
}

const fn powers() -> [u32; 64] {
    const X_TO_THE_8: u32 = 1 << (31 - 8);
    let mut powers = [X_TO_THE_8; 64];
    let mut k = 1;
    while k < powers.len() {
        powers[k] = multiply(powers[k - 1], powers[k - 1]);
        k += 1;
    }
    powers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_check_value_of_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(b""), 0);
    }

    proptest! {
        #![proptest_config(crate::testing::seeded())]

        #[test]
        fn pieces_and_combinations_equal_one_pass(bytes in prop::collection::vec(any::<u8>(), 0..5000), at in any::<prop::sample::Index>()) {
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
            let mut pieces = Crc32c::new();
            pieces.update(first);
            pieces.update(second);
            prop_assert_eq!(pieces.value(), crc32c(&bytes));
            prop_assert_eq!(combine(crc32c(first), crc32c(second), second.len()), crc32c(&bytes));
        }

        #[test]
        fn a_combination_equals_the_crates_own_at_any_length(first in any::<u32>(), second in any::<u32>(), length in any::<u32>()) {
            let theirs = crc_fast::checksum_combine(CrcAlgorithm::Crc32Iscsi, first.into(), second.into(), length.into());
            prop_assert_eq!(u64::from(combine(first, second, length as usize)), theirs);
        }

        #[test]
        fn replacing_a_prefix_equals_one_pass(old in any::<[u8; 40]>(), new in any::<[u8; 40]>(), rest in prop::collection::vec(any::<u8>(), 0..3000)) {
            let before = crc32c(&[&old[..], &rest].concat());
            let after = crc32c(&[&new[..], &rest].concat());
            prop_assert_eq!(replace_prefix(before, crc32c(&old), crc32c(&new), rest.len()), after);
        }
    }
}
