//! A segment: each batch, whether its checksum is right, and if asked for its records.
//!
//! Up to the length that the manifest names, every byte was flushed, and what is not a whole batch there is damage. Behind
//! it lies what was written since, or what a crash left of it: a start takes that from the journal, so that anything may
//! be there. The last block of the last segment is read as the manifest has it, as a start does.
//!
//! Behind bytes that are no batch, the next one is looked for: the first bytes that look like a header, further on in the
//! log, with the right checksum behind them. A record may contain such bytes, so what is found this way is likely, not
//! certain.

use std::io;
use std::path::Path;

use corelane_shards::directory::layout::segment_base;
use corelane_shards::format::batch::{self, BatchView, Codec, TimestampType};
use corelane_shards::limits::{BLOCK_BYTES, READ_BYTES_MAX};

use super::cell::{Cell, count};
use super::report::{Report, Table};
use super::source::Source;
use super::surroundings::Surroundings;
use crate::records::{Record, Records};

/// No batch is longer: the engine reads one at a time. Bytes.
const BATCH_BYTES_MAX: usize = READ_BYTES_MAX;

/// What is read at a time while a batch is looked for. Bytes.
const WINDOW_BYTES: usize = 1 << 20;

/// What is checksummed at most in one file while batches are looked for, so that bytes made for it cannot keep a dump busy
/// for ever. Bytes.
const LOOKED_AT_BYTES_MAX: u64 = 4 << 30;

static BATCHES: Table = Table {
    kind: "batch",
    columns: &[
        "position",
        "base_offset",
        "last_offset",
        "records",
        "bytes",
        "epoch",
        "codec",
        "crc",
        "base_timestamp",
        "max_timestamp",
        "producer",
        "producer_epoch",
        "base_sequence",
        "flags",
    ],
    more: &[],
    indent: 0,
};

static RECORDS: Table = Table {
    kind: "record",
    columns: &["offset", "timestamp", "key", "value", "headers"],
    more: &["batch_position"],
    indent: 6,
};

/// Every batch of a segment.
pub(super) fn segment(
    report: &mut Report<'_>,
    source: &mut Source,
    around: Option<&Surroundings>,
    records: bool,
) -> io::Result<()> {
    let expected = Expected::of(source.path(), around);
    let mut facts = vec![("file_bytes", Cell::from(source.length()))];
    facts.push(("log", expected.log.clone().map_or(Cell::Absent, Cell::Text)));
    facts.push(("flushed_bytes", Cell::of(expected.flushed)));
    report.facts("segment", facts)?;
    if expected.is_unnamed {
        report.note("no manifest names this segment: a start takes what belongs in it from the journal")?;
    }
    if let Some((position, bytes)) = expected.fragment {
        match source.patch(position, bytes) {
            Ok(false) => {}
            Ok(true) => report.note(&format!(
                "the block at byte {} is shown as the manifest has it, and as a start will write it",
                position
            ))?,
            Err(error) => return report.unreadable(source.path(), &error.to_string()),
        }
    }
    let mut scan = Scan::of(report, source, expected.flushed, records);
    scan.run()?;
    let summary = scan.summary();
    report.facts("segment_summary", summary)
}

/// What the manifests say of a segment.
#[derive(Default)]
struct Expected {
    /// The log it belongs to.
    log: Option<String>,
    /// Up to here every byte was flushed, if there are manifests to say so.
    flushed: Option<u64>,
    /// The last partial block of a log's last segment, which is not trusted on disk.
    fragment: Option<(u64, Vec<u8>)>,
    /// There are manifests, and none names it.
    is_unnamed: bool,
}

impl Expected {
    fn of(path: &Path, around: Option<&Surroundings>) -> Expected {
        let base = path.file_name().and_then(|name| segment_base(name.to_str()?));
        let (Some(around), Some(base)) = (around, base) else { return Expected::default() };
        let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        if !absolute.starts_with(around.layout().topics()) {
            return Expected::default();
        }
        let folder = absolute.parent().unwrap_or(&absolute);
        let (part, log) = (around.log_in(folder), around.log_name_in(folder));
        if !around.has_all_manifests() {
            return Expected { log, ..Expected::default() };
        }
        let named =
            part.and_then(|part| Some((part, part.segments.iter().find(|one| one.base == base.get())?)));
        let Some((part, segment)) = named else {
            return Expected { log, flushed: Some(0), fragment: None, is_unnamed: true };
        };
        let is_last = part.segments.last().is_some_and(|last| last.base == segment.base);
        let start = segment.length - segment.length % BLOCK_BYTES as u64;
        let fragment =
            (is_last && !part.tail_fragment.is_empty()).then(|| (start, part.tail_fragment.clone()));
        Expected { log, flushed: Some(segment.length), fragment, is_unnamed: false }
    }
}

/// One pass over a segment.
struct Scan<'s, 'o> {
    report: &'s mut Report<'o>,
    source: &'s Source,
    flushed: Option<u64>,
    records: bool,
    position: u64,
    /// The least offset that the next batch may have.
    next_offset: i64,
    buffer: Vec<u8>,
    looked_at: u64,
    batches: u64,
    records_counted: u64,
}

impl<'s, 'o> Scan<'s, 'o> {
    fn of(
        report: &'s mut Report<'o>,
        source: &'s Source,
        flushed: Option<u64>,
        records: bool,
    ) -> Scan<'s, 'o> {
        Scan {
            report,
            source,
            flushed,
            records,
            position: 0,
            next_offset: 0,
            buffer: Vec::new(),
            looked_at: 0,
            batches: 0,
            records_counted: 0,
        }
    }

    fn summary(&self) -> Vec<(&'static str, Cell)> {
        vec![
            ("batches", self.batches.into()),
            ("records", self.records_counted.into()),
            ("end_offset", self.next_offset.into()),
        ]
    }

    fn run(&mut self) -> io::Result<()> {
        while self.position < self.source.length() {
            let step = match self.read_batch() {
                Ok(step) => step,
                Err(error) => {
                    let reason = format!("it cannot be read: {error}");
                    return self.report.damage(Some(self.position), &reason);
                }
            };
            match step {
                Step::Batch(length) => self.batch(length)?,
                Step::Zeros => return self.end_of_zeros(),
                Step::NoBatch(reason) => {
                    self.trouble(self.position, &reason)?;
                    if !self.resume()? {
                        return Ok(());
                    }
                }
            }
        }
        self.end()
    }

    /// Reads the batch at the present position into the buffer.
    fn read_batch(&mut self) -> io::Result<Step> {
        let read = self.fill(self.position, batch::HEADER_BYTES)?;
        let header = &self.buffer[..read];
        if header.iter().all(|byte| *byte == 0) && self.is_zero_from(self.position)? {
            return Ok(Step::Zeros);
        }
        let needed = match BatchView::parse(&self.buffer[..read]) {
            Ok((_, length)) => length,
            Err(batch::Error::Truncated { needed, .. }) if needed <= BATCH_BYTES_MAX => needed,
            Err(error) => return Ok(Step::NoBatch(error.to_string())),
        };
        let read = self.fill(self.position, needed)?;
        Ok(match BatchView::parse(&self.buffer[..read]) {
            Ok((_, length)) => Step::Batch(length),
            Err(error) => Step::NoBatch(error.to_string()),
        })
    }

    fn batch(&mut self, length: usize) -> io::Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        let (batch, _) = BatchView::parse(&bytes[..length]).expect("it was parsed before");
        let crc = batch.check_crc();
        self.report.row(&BATCHES, cells(self.position, &batch, crc.is_ok()))?;
        self.batches += 1;
        self.records_counted += u64::try_from(batch.record_count()).unwrap_or(0);
        match crc {
            Err(error) => self.trouble(self.position, &error.to_string())?,
            Ok(()) => {
                if batch.base_offset().get() < self.next_offset {
                    let reason =
                        format!("offset {} comes after offset {}", batch.base_offset(), self.next_offset - 1);
                    self.trouble(self.position, &reason)?;
                }
                self.next_offset = batch.last_offset().get().saturating_add(1);
                if self.records {
                    self.show_records(batch)?;
                }
            }
        }
        self.position += length as u64;
        self.buffer = bytes;
        Ok(())
    }

    fn show_records(&mut self, batch: BatchView<'_>) -> io::Result<()> {
        for record in Records::of(batch) {
            match record {
                Ok(Record { offset, timestamp, key, value, headers }) => {
                    let cells = vec![
                        offset.get().into(),
                        Cell::Time(timestamp.get()),
                        Cell::of(key),
                        Cell::of(value),
                        Cell::Headers(headers),
                        self.position.into(),
                    ];
                    self.report.row(&RECORDS, cells)?;
                }
                // The checksum is right, so a producer sent it like this: it is no damage.
                Err(error) => self.report.note(&format!("batch at byte {}: {error}", self.position))?,
            }
        }
        Ok(())
    }

    /// Damage below what was flushed; above it, a note.
    fn trouble(&mut self, position: u64, reason: &str) -> io::Result<()> {
        if self.flushed.is_none_or(|flushed| position < flushed) {
            return self.report.damage(Some(position), reason);
        }
        self.report.note(&format!("at byte {position}, behind all that is known to be flushed: {reason}"))
    }

    fn end_of_zeros(&mut self) -> io::Result<()> {
        let zeros = self.source.length() - self.position;
        // Fewer are the rest of the last block, which every segment has until it is cut to its length.
        if zeros >= BLOCK_BYTES as u64 {
            self.report.note(&format!("{zeros} zero bytes from byte {} to the end", self.position))?;
        }
        self.end()
    }

    /// Tells a file that ends before what was flushed.
    fn end(&mut self) -> io::Result<()> {
        match self.flushed.filter(|flushed| *flushed > self.position) {
            Some(flushed) => {
                let reason = format!("batches end here, and {flushed} bytes were flushed");
                self.report.damage(Some(self.position), &reason)
            }
            None => Ok(()),
        }
    }

    fn fill(&mut self, position: u64, bytes: usize) -> io::Result<usize> {
        let left = usize::try_from(self.source.length().saturating_sub(position)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left);
        self.buffer.resize(bytes.max(self.buffer.len()), 0);
        self.source.read(position, &mut self.buffer[..bytes])
    }

    fn is_zero_from(&self, mut position: u64) -> io::Result<bool> {
        let mut window = vec![0; WINDOW_BYTES];
        loop {
            let read = self.source.read(position, &mut window)?;
            if window[..read].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            if read == 0 {
                return Ok(true);
            }
            position += read as u64;
        }
    }

    /// Goes to the next batch behind bytes that are none; false if there is none, or none was found in bounded time.
    fn resume(&mut self) -> io::Result<bool> {
        let from = self.position;
        let found = match self.find(from + 1) {
            Ok(found) => found,
            Err(error) => {
                self.report.damage(Some(from), &format!("what follows cannot be read: {error}"))?;
                None
            }
        };
        match found {
            Some(position) => {
                self.report.note(&format!("{} bytes further on lies a batch again", position - from))?;
                self.position = position;
            }
            None => self.report.note("no batch was found behind it")?,
        }
        Ok(found.is_some())
    }

    fn find(&mut self, mut from: u64) -> io::Result<Option<u64>> {
        let mut window = vec![0; WINDOW_BYTES];
        loop {
            let read = self.source.read(from, &mut window)?;
            let Some(last) = read.checked_sub(batch::HEADER_BYTES) else { return Ok(None) };
            for at in 0..=last {
                if self.looks_like_the_next(&window[at..at + batch::HEADER_BYTES])
                    && self.is_whole(from + at as u64)?
                {
                    return Ok(Some(from + at as u64));
                }
            }
            from += last as u64 + 1;
        }
    }

    /// Whether a header is that of a batch further on in this log.
    fn looks_like_the_next(&self, header: &[u8]) -> bool {
        let fits = match BatchView::parse(header) {
            Ok(_) => true,
            Err(batch::Error::Truncated { needed, .. }) => needed <= BATCH_BYTES_MAX,
            Err(_) => false,
        };
        let base = i64::from_be_bytes(*header.first_chunk().expect("a header begins with its offset"));
        let reach = self.next_offset.saturating_add(i64::from(i32::MAX));
        fits && (self.next_offset..=reach).contains(&base)
    }

    fn is_whole(&mut self, position: u64) -> io::Result<bool> {
        let before = std::mem::replace(&mut self.position, position);
        let step = self.read_batch();
        self.position = before;
        let Step::Batch(length) = step? else { return Ok(false) };
        self.looked_at += length as u64;
        let is_right =
            BatchView::parse(&self.buffer[..length]).is_ok_and(|(batch, _)| batch.check_crc().is_ok());
        Ok(is_right && self.looked_at <= LOOKED_AT_BYTES_MAX)
    }
}

/// What begins at a place in a segment.
enum Step {
    /// A batch of so many bytes, by its header.
    Batch(usize),
    /// Nothing but zeros up to the end.
    Zeros,
    /// Something else.
    NoBatch(String),
}

fn cells(position: u64, batch: &BatchView<'_>, is_right: bool) -> Vec<Cell> {
    let of_producer = |cell: Cell| if batch.has_producer() { cell } else { Cell::Absent };
    vec![
        position.into(),
        batch.base_offset().get().into(),
        batch.last_offset().get().into(),
        batch.record_count().into(),
        count(batch.bytes().len()),
        batch.leader_epoch().get().into(),
        Cell::text(codec_name(batch.codec())),
        Cell::text(if is_right { "ok" } else { "BAD" }),
        Cell::Time(batch.base_timestamp().get()),
        Cell::Time(batch.max_timestamp().get()),
        of_producer(batch.producer_id().get().into()),
        of_producer(batch.producer_epoch().get().into()),
        of_producer(batch.base_sequence().get().into()),
        flags(batch),
    ]
}

fn codec_name(codec: Codec) -> &'static str {
    match codec {
        Codec::None => "none",
        Codec::Gzip => "gzip",
        Codec::Snappy => "snappy",
        Codec::Lz4 => "lz4",
        Codec::Zstd => "zstd",
    }
}

fn flags(batch: &BatchView<'_>) -> Cell {
    let flags = [
        (batch.is_transactional(), "transactional"),
        (batch.is_control(), "control"),
        (batch.has_delete_horizon(), "delete horizon"),
        (batch.timestamp_type() == TimestampType::LogAppendTime, "log append time"),
    ];
    Cell::List(flags.into_iter().filter(|(is_set, _)| *is_set).map(|(_, name)| name.to_owned()).collect())
}
