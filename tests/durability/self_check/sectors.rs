//! Which numbers each block may hold after a cut, and which it does hold. It takes nothing from the
//! instrument but seeded numbers.
//!
//! ```text
//! sector: number u64 | block u64 | sector u64 | filler drawn from number | CRC32 u32   (512 bytes)
//! ```

use crate::powercut::Random;

pub(super) const BLOCKS: usize = 64;
pub(super) const BLOCK_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;
const CRC_AT: usize = SECTOR_BYTES - 4;

/// What a writer did, block by block.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    /// The last number that each block was written with, acknowledged or not.
    pub(super) attempted: [u64; BLOCKS],
    /// The last number that was acknowledged.
    pub(super) acked: [u64; BLOCKS],
    pub(super) acks: u64,
    base: u64,
}

impl Ledger {
    /// Every block holds `base`, flushed.
    pub(super) fn new(base: u64) -> Self {
        Self { attempted: [base; BLOCKS], acked: [base; BLOCKS], acks: 0, base }
    }
}

/// What was found after a cut.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Blocks with an acknowledged overwrite, each compared sector by sector.
    pub(super) compared: u64,
    /// Of these, blocks of which an acknowledged number is gone.
    pub(super) lost: u64,
    /// Blocks that hold mixed or unreadable sectors where a write was not acknowledged, as is allowed.
    pub(super) torn: u64,
    /// Blocks with sectors that nobody wrote, or from the future, where nothing allows it.
    pub(super) wrong: u64,
}

impl Verdict {
    pub(super) fn add(&mut self, other: Self) {
        self.compared += other.compared;
        self.lost += other.lost;
        self.torn += other.torn;
        self.wrong += other.wrong;
    }
}

/// Fills a block with sectors that say what they are.
pub(super) fn fill(block: &mut [u8], index: usize, number: u64) {
    for (sector, bytes) in block.chunks_mut(SECTOR_BYTES).enumerate() {
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes[8..16].copy_from_slice(&(index as u64).to_le_bytes());
        bytes[16..24].copy_from_slice(&(sector as u64).to_le_bytes());
        Random::new(number).fill(&mut bytes[24..CRC_AT]);
        let crc = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Compares what was read with what may be there.
pub(super) fn check(content: &[u8], ledger: &Ledger) -> Verdict {
    assert_eq!(content.len(), BLOCKS * BLOCK_BYTES, "the whole file was read");
    let mut verdict = Verdict::default();
    for (index, block) in content.chunks(BLOCK_BYTES).enumerate() {
        let (acked, attempted) = (ledger.acked[index], ledger.attempted[index]);
        let numbers: Vec<Option<u64>> = block
            .chunks(SECTOR_BYTES)
            .enumerate()
            .map(|(sector, bytes)| number_in(bytes, index, sector))
            .collect();
        verdict.compared += u64::from(acked > ledger.base);
        if numbers.iter().flatten().any(|&number| number < acked) {
            verdict.lost += 1;
        } else if numbers.iter().flatten().any(|&number| number > attempted)
            || (acked == attempted && numbers.contains(&None))
        {
            verdict.wrong += 1;
        } else if numbers.iter().any(|number| *number != numbers[0] || number.is_none()) {
            verdict.torn += 1;
        }
    }
    verdict
}

/// The number in a sector, if it is one that was written there.
fn number_in(bytes: &[u8], index: usize, sector: usize) -> Option<u64> {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let crc = u32::from_le_bytes(bytes[CRC_AT..].try_into().expect("four bytes"));
    let whole =
        crc == crc32fast::hash(&bytes[..CRC_AT]) && word(8) == index as u64 && word(16) == sector as u64;
    whole.then(|| word(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All blocks at 5, but block 3 with `acked` and `attempted`.
    fn ledger(acked: u64, attempted: u64) -> Ledger {
        let mut ledger = Ledger::new(5);
        ledger.acked[3] = acked;
        ledger.attempted[3] = attempted;
        ledger
    }

    /// All blocks at 5, but block 3 with these numbers in its first sectors and `rest` in the others.
    fn content(first: &[u64], rest: u64) -> Vec<u8> {
        let mut content = vec![0; BLOCKS * BLOCK_BYTES];
        for (index, block) in content.chunks_mut(BLOCK_BYTES).enumerate() {
            fill(block, index, if index == 3 { rest } else { 5 });
        }
        for (sector, &number) in first.iter().enumerate() {
            let mut block = [0; BLOCK_BYTES];
            fill(&mut block, 3, number);
            let range = sector * SECTOR_BYTES..(sector + 1) * SECTOR_BYTES;
            content[3 * BLOCK_BYTES..][range.clone()].copy_from_slice(&block[range]);
        }
        content
    }

    #[test]
    fn what_may_be_there_is_accepted() {
        let whole = Verdict { compared: 1, ..Verdict::default() };
        assert_eq!(check(&content(&[], 7), &ledger(7, 7)), whole);
        assert_eq!(check(&content(&[], 8), &ledger(7, 8)), whole);
        assert_eq!(check(&content(&[8, 9, 8], 7), &ledger(7, 9)), Verdict { torn: 1, ..whole });
    }

    #[test]
    fn one_old_sector_of_an_acknowledged_block_is_a_loss() {
        assert_eq!(check(&content(&[6], 7), &ledger(7, 7)).lost, 1);
        assert_eq!(check(&content(&[8, 6], 7), &ledger(7, 9)).lost, 1);
    }

    #[test]
    fn sectors_that_nobody_wrote_are_wrong() {
        assert_eq!(check(&content(&[8], 7), &ledger(7, 7)).wrong, 1);
        let mut garbled = content(&[], 7);
        garbled[3 * BLOCK_BYTES + 100] ^= 1;
        assert_eq!(check(&garbled, &ledger(7, 7)).wrong, 1);
        assert_eq!(check(&garbled, &ledger(7, 8)), Verdict { compared: 1, torn: 1, ..Verdict::default() });
        let mut misplaced = content(&[], 7);
        misplaced.copy_within(..SECTOR_BYTES, 3 * BLOCK_BYTES);
        assert_eq!(check(&misplaced, &ledger(7, 7)).wrong, 1);
    }

    #[test]
    fn a_block_without_an_acknowledgement_is_not_counted_as_compared() {
        assert_eq!(check(&content(&[6], 5), &ledger(5, 6)), Verdict { torn: 1, ..Verdict::default() });
    }
}
