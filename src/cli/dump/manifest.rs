//! A manifest: where its journal goes on, and each log as of the last checkpoint.

use std::io;

use corelane_shards::format::manifest::{self, Manifest, Partition};

use super::cell::{Cell, count};
use super::report::{Report, Table};
use super::source::Source;
use super::surroundings::{MANIFEST_BYTES_MAX, Surroundings, log_name};

static LOGS: Table = Table {
    kind: "log",
    columns: &["log", "log_start", "end", "segments", "bytes", "tail_fragment_bytes", "epochs", "producers"],
    more: &["topic_id", "partition"],
    indent: 0,
};

static SEGMENTS: Table = Table {
    kind: "log_segment",
    columns: &["log", "segment", "flushed_bytes", "max_timestamp", "created"],
    more: &["topic_id", "partition"],
    indent: 0,
};

static EPOCHS: Table = Table {
    kind: "log_epoch",
    columns: &["log", "epoch", "first_offset"],
    more: &["topic_id", "partition"],
    indent: 0,
};

static PRODUCERS: Table = Table {
    kind: "log_producer",
    columns: &["log", "producer", "producer_epoch", "appended_at", "open_transaction", "batches"],
    more: &["topic_id", "partition"],
    indent: 0,
};

static BATCHES: Table = Table {
    kind: "producer_batch",
    columns: &["log", "producer", "base_sequence", "last_sequence", "base_offset", "last_offset"],
    more: &["topic_id", "partition"],
    indent: 0,
};

/// Everything a manifest says.
pub(super) fn manifest(
    report: &mut Report<'_>,
    source: &Source,
    around: Option<&Surroundings>,
) -> io::Result<()> {
    let bytes = match source.whole(MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) => return report.unreadable(source.path(), &error.to_string()),
    };
    match Manifest::decode(&bytes) {
        Ok(manifest) => show(report, &manifest, around),
        Err(error) => report.damage(None, &error.to_string()),
    }
}

fn show(report: &mut Report<'_>, manifest: &Manifest, around: Option<&Surroundings>) -> io::Result<()> {
    report.facts("manifest", facts(manifest))?;
    let logs: Vec<Log<'_>> = manifest.partitions.iter().map(|part| Log::of(part, around)).collect();
    for log in &logs {
        report.row(&LOGS, log.summary())?;
    }
    for log in &logs {
        log.segments(report)?;
    }
    for log in &logs {
        log.epochs(report)?;
    }
    for log in &logs {
        log.producers(report)?;
    }
    logs.iter().try_for_each(|log| log.batches(report))
}

/// The manifest's own part. Of the generation only a checksum: see `docs/formats/journal.md`.
pub(super) fn facts(manifest: &Manifest) -> Vec<(&'static str, Cell)> {
    vec![
        ("version", manifest::VERSION.into()),
        ("opening", Cell::Checksum(opening(manifest.generation))),
        ("epoch", manifest.epoch.into()),
        ("tail_sequence", manifest.tail.sequence.into()),
        ("tail_position", manifest.tail.position.into()),
        ("previous_checksum", Cell::Checksum(manifest.tail.previous)),
        ("journal_bytes", manifest.capacity.into()),
        ("group_bytes_max", manifest.group_bytes_max.into()),
        ("durable_sequence", manifest.durable.into()),
        ("settled_sequence", manifest.settled.into()),
        ("logs", count(manifest.partitions.len())),
    ]
}

/// What stands for a generation, which is secret while its opening lasts: enough to tell openings apart.
pub(super) fn opening(generation: u64) -> u32 {
    crc32fast::hash(&generation.to_le_bytes())
}

/// The bytes of a log's segments, as far as they are flushed.
pub(super) fn flushed_bytes(part: &Partition) -> u64 {
    part.segments.iter().map(|segment| segment.length).fold(0, u64::saturating_add)
}

struct Log<'m> {
    part: &'m Partition,
    name: String,
}

impl<'m> Log<'m> {
    fn of(part: &'m Partition, around: Option<&Surroundings>) -> Log<'m> {
        Log { part, name: log_name(around, part.id()) }
    }

    /// A row's cells with the log before and its id behind them.
    fn row<const N: usize>(&self, cells: [Cell; N]) -> Vec<Cell> {
        let id = self.part.id();
        let more = [Cell::text(id.topic), id.index.get().into()];
        [Cell::text(&self.name)].into_iter().chain(cells).chain(more).collect()
    }

    fn summary(&self) -> Vec<Cell> {
        let part = self.part;
        self.row([
            part.log_start.into(),
            part.end.into(),
            count(part.segments.len()),
            flushed_bytes(part).into(),
            count(part.tail_fragment.len()),
            count(part.epochs.len()),
            count(part.producers.len()),
        ])
    }

    fn segments(&self, report: &mut Report<'_>) -> io::Result<()> {
        self.part.segments.iter().try_for_each(|one| {
            let times = (Cell::Time(one.max_timestamp), Cell::Time(one.created));
            report.row(&SEGMENTS, self.row([one.base.into(), one.length.into(), times.0, times.1]))
        })
    }

    fn epochs(&self, report: &mut Report<'_>) -> io::Result<()> {
        let row = |one: &manifest::Epoch| self.row([one.epoch.into(), one.start.into()]);
        self.part.epochs.iter().try_for_each(|one| report.row(&EPOCHS, row(one)))
    }

    fn producers(&self, report: &mut Report<'_>) -> io::Result<()> {
        self.part.producers.iter().try_for_each(|one| {
            let open = if one.open_transaction < 0 { Cell::Absent } else { one.open_transaction.into() };
            let cells = [
                one.id.into(),
                one.epoch.into(),
                Cell::Time(one.appended_at),
                open,
                count(one.batches.len()),
            ];
            report.row(&PRODUCERS, self.row(cells))
        })
    }

    fn batches(&self, report: &mut Report<'_>) -> io::Result<()> {
        for producer in &self.part.producers {
            for one in &producer.batches {
                let cells = [
                    producer.id.into(),
                    one.base_sequence.into(),
                    one.last_sequence.into(),
                    one.base_offset.into(),
                    one.last_offset.into(),
                ];
                report.row(&BATCHES, self.row(cells))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Folder, dumped};

    const GOLDEN: &[u8] = include_bytes!("../../../shards/src/format/testdata/manifest.v1");

    #[test]
    fn the_golden_manifest_is_told_but_not_its_secret() {
        let folder = Folder::new("manifest");
        let path = folder.write("some-manifest", GOLDEN);
        let whole = dumped(&path, &["--json"]);
        assert_eq!(whole.code, 0);
        let manifest = &whole.objects("manifest")[0];
        assert_eq!((&manifest["tail_position"], &manifest["durable_sequence"]), (&8192.into(), &44.into()));
        let counts = ["log", "log_segment", "log_epoch", "log_producer", "producer_batch"]
            .map(|kind| whole.objects(kind).len());
        assert_eq!(counts, [1, 2, 2, 1, 1]);
        assert_eq!(whole.objects("producer_batch")[0]["last_sequence"], 49);
        for text in [whole.text, dumped(&path, &[]).text] {
            let secret = ["0123456789abcdef", "81985529216486895", "efcdab8967452301"];
            assert!(secret.iter().all(|secret| !text.contains(secret)), "{text}");
        }
    }

    #[test]
    fn a_flipped_bit_is_damage() {
        let mut flipped = GOLDEN.to_vec();
        flipped[100] ^= 1;
        let dumped = dumped(&Folder::new("manifest-bit").write("manifest/0000000007-0", &flipped), &[]);
        assert_eq!(dumped.code, 1);
        assert!(dumped.text.contains("DAMAGE: the manifest is damaged: its checksum is"), "{}", dumped.text);
    }
}
