//! The records of a batch as a stream of bytes, whatever codec they were compressed with.
//!
//! A producer chooses every byte of a body, so sizes that it claims are believed nowhere: a stream ends after
//! [`BYTES_MAX`], and memory is bounded by that, by the codec's own window or by what the body's length can hold. A stream
//! that ends early and one that is cut look the same; the reader of the records notices that one is missing. Nothing here
//! knows what a record is.

use std::io::{BufRead, BufReader, Cursor, Read};

use corelane_shards::format::batch::Codec;

/// The most that is decompressed of one batch: far above what a batch of real records grows to, and little enough that a
/// body made to explode costs a shard a fraction of a second. Bytes.
const BYTES_MAX: usize = 64 << 20;

/// The largest zstd window accepted, which the decoder reserves at once: what RFC 8878 recommends decoders to support.
/// Bytes.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 << 20;

/// Snappy's densest element makes 64 bytes of 3, so no block grows further than this.
const SNAPPY_GROWTH_MAX: usize = 22;

/// What the framing of Kafka's Java client begins with; two versions of four bytes follow.
const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;

/// The decompressed `body`, or none if its beginning is already malformed.
pub fn open(codec: Codec, body: &[u8]) -> Option<Box<dyn BufRead + '_>> {
    open_capped(codec, body, BYTES_MAX)
}

/// As `open`, with another bound than [`BYTES_MAX`].
pub fn open_capped(codec: Codec, body: &[u8], bytes_max: usize) -> Option<Box<dyn BufRead + '_>> {
    let stream: Box<dyn Read + '_> = match codec {
        Codec::None => return Some(Box::new(body)),
        Codec::Snappy => return Some(Box::new(Cursor::new(snappy(body, bytes_max)?))),
        Codec::Gzip => Box::new(flate2::read::MultiGzDecoder::new(body)),
        Codec::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(body)),
        Codec::Zstd => Box::new(zstd(body)?),
    };
    Some(Box::new(BufReader::new(stream.take(u64::try_from(bytes_max).ok()?))))
}

fn zstd(body: &[u8]) -> Option<impl Read + '_> {
    let mut decoder = ruzstd::decoding::FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
    ruzstd::decoding::StreamingDecoder::new_with_decoder(body, decoder).ok()
}

/// A body is either one raw block or, from the Java client and those that imitate it, framed blocks.
fn snappy(body: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    if !body.starts_with(XERIAL_MAGIC) {
        snappy_block(body, bytes_max, &mut whole)?;
        return Some(whole);
    }
    let mut blocks = body.get(XERIAL_HEADER_BYTES..)?;
    while let Some((length, rest)) = blocks.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (block, rest) = rest.split_at_checked(length)?;
        snappy_block(block, bytes_max, &mut whole)?;
        blocks = rest;
    }
    blocks.is_empty().then_some(whole)
}

/// Appends one block to `whole`, which stays within `bytes_max`.
fn snappy_block(block: &[u8], bytes_max: usize, whole: &mut Vec<u8>) -> Option<()> {
    let start = whole.len();
    let length = snap::raw::decompress_len(block).ok()?;
    if length > block.len().saturating_mul(SNAPPY_GROWTH_MAX) || length > bytes_max - start {
        return None;
    }
    whole.resize(start + length, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut whole[start..]).ok()?;
    (written == length).then_some(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const BOMB_BYTES: usize = 4 << 20;
    const CAP: usize = 1 << 20;

    fn length(codec: Codec, body: &[u8]) -> Option<usize> {
        let mut bytes = Vec::new();
        open_capped(codec, body, CAP)?.read_to_end(&mut bytes).ok()
    }

    fn framed(blocks: &[&[u8]]) -> Vec<u8> {
        let mut body = [XERIAL_MAGIC, &[0, 0, 0, 1, 0, 0, 0, 1]].concat();
        for block in blocks {
            body.extend(u32::try_from(block.len()).unwrap().to_be_bytes());
            body.extend(*block);
        }
        body
    }

    #[test]
    fn a_bomb_is_cut_at_the_cap() {
        let zeros = vec![0; BOMB_BYTES];
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        gzip.write_all(&zeros).unwrap();
        assert_eq!(length(Codec::Gzip, &gzip.finish().unwrap()), Some(CAP));
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&zeros).unwrap();
        assert_eq!(length(Codec::Lz4, &lz4.finish().unwrap()), Some(CAP));
        let zstd = ruzstd::encoding::compress_to_vec(&zeros[..], ruzstd::encoding::CompressionLevel::Fastest);
        assert_eq!(length(Codec::Zstd, &zstd), Some(CAP));
        let snappy = snap::raw::Encoder::new().compress_vec(&zeros).unwrap();
        assert_eq!(length(Codec::Snappy, &snappy), None);
        let half = snap::raw::Encoder::new().compress_vec(&zeros[..CAP / 2]).unwrap();
        assert_eq!(length(Codec::Snappy, &framed(&[&half, &half])), Some(CAP));
        assert_eq!(length(Codec::Snappy, &framed(&[&half, &half, &half])), None);
    }

    #[test]
    fn a_claimed_size_is_not_believed() {
        // A raw snappy block of 512 KiB by its own word, in three bytes and a literal of one.
        assert_eq!(length(Codec::Snappy, &[0x80, 0x80, 0x20, 0, b'a']), None);
        // A zstd frame whose window descriptor says 1 GiB.
        assert_eq!(length(Codec::Zstd, &[0x28, 0xb5, 0x2f, 0xfd, 0, 0xa0, 1, 0, 0]), None);
    }

    #[test]
    fn malformed_bodies_are_errors() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            assert_eq!(length(codec, &[0xff; 64]), None, "{codec:?}");
        }
        let mut cut = framed(&[&[1, 0, b'a']]);
        assert_eq!(length(Codec::Snappy, &cut), Some(1));
        cut.pop();
        assert_eq!(length(Codec::Snappy, &cut), None);
    }
}
