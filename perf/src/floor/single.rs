//! Rows of one thread without a network: durable writes by size, checksum, copy.

use std::fs::File;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use crc_fast::{CrcAlgorithm, checksum};
use hdrhistogram::Histogram;

use super::error::Error;
use super::exchange::{histogram, nanoseconds};
use super::file::{AlignedBlock, BlockWriter};
use super::host::pin;
use super::mode::Flush;

/// Sizes of durable writes.
pub(super) const WRITE_SIZES: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];
/// Bytes that a checksum or a copy takes at once; they stay in the caches, as a batch does that was just received.
pub(super) const COMPUTE_BYTES: usize = 64 << 10;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Computation {
    Crc32c,
    Memcpy,
}

/// Runs `work` on a thread bound to `cpu`.
fn on_cpu<T: Send>(cpu: usize, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            pin(cpu)?;
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Latencies of durable writes of `bytes`, one after the other, for `time` after a tenth of it.
pub(super) fn durable_writes(
    cpu: usize,
    file: &File,
    bytes: usize,
    flush: Flush,
    time: Duration,
) -> Result<Histogram<u64>, Error> {
    on_cpu(cpu, || {
        let mut writer = BlockWriter::new(file, bytes, flush);
        let warm_up = Instant::now();
        while warm_up.elapsed() < time / 10 {
            writer.write()?;
        }
        let mut latencies = histogram();
        let begin = Instant::now();
        loop {
            let before = Instant::now();
            writer.write()?;
            latencies.saturating_record(nanoseconds(before.elapsed()));
            if begin.elapsed() >= time {
                return Ok(latencies);
            }
        }
    })
}

/// Bytes per second of a computation over [`COMPUTE_BYTES`] at a time.
pub(super) fn compute(cpu: usize, computation: Computation, time: Duration) -> Result<f64, Error> {
    on_cpu(cpu, || {
        let source = AlignedBlock::new(COMPUTE_BYTES);
        let mut target = vec![0; COMPUTE_BYTES];
        let mut once = || match computation {
            Computation::Crc32c => {
                black_box(checksum(CrcAlgorithm::Crc32Iscsi, black_box(source.bytes())));
            }
            Computation::Memcpy => {
                target.copy_from_slice(black_box(source.bytes()));
                black_box(&target);
            }
        };
        once();
        let mut bytes = 0.0;
        let begin = Instant::now();
        loop {
            once();
            bytes += COMPUTE_BYTES as f64;
            let elapsed = begin.elapsed();
            if elapsed >= time {
                return Ok(bytes / elapsed.as_secs_f64());
            }
        }
    })
}
