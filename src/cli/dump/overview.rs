//! A whole data directory: what it is, its shards, its topics and logs, and whether its parts fit together.
//!
//! Journals are read, since only they say what a start would replay. Segments are not: their files are there and long
//! enough, or are told; `corelane dump` on the files themselves reads them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use corelane_shards::core::effect::SegmentFile;
use corelane_shards::directory::format_file::Format;
use corelane_shards::directory::layout::SegmentPart;
use corelane_shards::format::manifest::{Partition, Segment};
use corelane_shards::types::{Offset, PartitionId, ShardIndex, TopicId};

use super::cell::{Cell, count};
use super::journal::Journal;
use super::manifest::flushed_bytes;
use super::report::{Report, Table};
use super::small::format_facts;
use super::source::Source;
use super::surroundings::{Named, Surroundings, log_name};
use crate::cluster::image::{MetadataImage, Topic, TopicState};

/// Where staging files lie.
const STAGING_PATH: &str = "/dev/shm";

static SHARDS: Table = Table {
    kind: "shard",
    columns: &["shard", "manifest", "logs", "journal_bytes", "groups_to_replay", "entries_to_replay"],
    more: &[],
    indent: 0,
};

static TOPICS: Table = Table {
    kind: "topic",
    columns: &["topic", "topic_id", "state", "partitions", "segments", "flushed_bytes", "offsets"],
    more: &[],
    indent: 0,
};

static LOGS: Table = Table {
    kind: "log",
    columns: &[
        "log",
        "shard",
        "log_start",
        "end",
        "batches_to_replay",
        "segments",
        "flushed_bytes",
        "file_bytes",
        "producers",
    ],
    more: &["topic_id", "partition"],
    indent: 0,
};

/// Everything at a glance.
pub(super) fn overview(report: &mut Report<'_>, around: &Surroundings) -> io::Result<()> {
    if let Some(note) = around.usage_note() {
        report.note(&note)?;
    }
    let mut overview = Overview { around, logs: BTreeMap::new() };
    let mut facts = overview.format(report)?;
    facts.extend(overview.metadata(report)?);
    facts.extend(overview.root(report)?);
    report.about(None);
    report.facts("directory", facts)?;
    overview.shards(report)?;
    overview.topics(report)?;
    overview.logs(report)?;
    overview.leftovers(report)
}

type Facts = Vec<(&'static str, Cell)>;

struct Overview<'a> {
    around: &'a Surroundings,
    logs: BTreeMap<PartitionId, Log<'a>>,
}

/// A log as a start would find it: what a manifest has, and what the journal adds.
#[derive(Clone, Copy, Default)]
struct Log<'a> {
    shard: u16,
    part: Option<&'a Partition>,
    batches_to_replay: u64,
    /// Behind the last batch to replay.
    journal_end: i64,
}

impl Log<'_> {
    fn end(&self) -> i64 {
        self.part.map_or(0, |part| part.end).max(self.journal_end)
    }

    fn start(&self) -> i64 {
        self.part.map_or(0, |part| part.log_start)
    }

    fn segments(&self) -> &[Segment] {
        self.part.map_or(&[], |part| &part.segments)
    }

    fn flushed_bytes(&self) -> u64 {
        self.part.map_or(0, flushed_bytes)
    }
}

impl<'a> Overview<'a> {
    fn format(&self, report: &mut Report<'_>) -> io::Result<Facts> {
        report.about(Some(&self.around.layout().format()));
        match Format::read(self.around.layout()) {
            Ok(Some(format)) => {
                let staging = staging_files(&format.directory.to_string());
                report.about(None);
                if staging > 0 && !self.around.is_in_use() {
                    report.note(
                        "its broker was killed and left staging files: a start may replay more than journals hold",
                    )?;
                }
                let mut facts = format_facts(&format);
                facts.push(("staging_files", count(staging)));
                return Ok(facts);
            }
            Ok(None) => report.damage(None, "the file is missing")?,
            Err(error) => report.damage(None, &error.to_string())?,
        }
        Ok(Facts::new())
    }

    fn metadata(&self, report: &mut Report<'_>) -> io::Result<Facts> {
        report.about(Some(&self.around.layout().metadata()));
        match self.around.image() {
            Ok(Some(image)) => return Ok(metadata_facts(image)),
            Ok(None) => report.note("it is empty: no broker got as far as to serve")?,
            // A running broker replaces the store's files one after the other.
            Err(error) if self.around.is_in_use() => {
                report.note(&format!("not readable just now: {error}"))?
            }
            Err(error) => report.damage(None, error)?,
        }
        Ok(Facts::new())
    }

    fn root(&self, report: &mut Report<'_>) -> io::Result<Facts> {
        let path = self.around.layout().root();
        report.about(Some(&path));
        match self.around.root() {
            Ok(root) => {
                return Ok(vec![("root_epoch", root.epoch.into()), ("shards", count(root.manifests.len()))]);
            }
            Err(_) if !path.exists() && self.image().is_none_or(|image| image.topics().next().is_none()) => {
                report.note("there is none, and no topic either: no start was finished here")?;
            }
            Err(error) => report.damage(None, &error)?,
        }
        Ok(Facts::new())
    }

    fn image(&self) -> Option<&'a MetadataImage> {
        self.around.image().as_ref().ok()?.as_ref()
    }

    fn shards(&mut self, report: &mut Report<'_>) -> io::Result<()> {
        for (shard, named) in (0..).zip(self.around.manifests()) {
            if let Err(error) = &named.manifest {
                report.about(Some(&self.around.layout().manifests().join(&named.name)));
                report.damage(None, error)?;
            }
            let to_replay = self.journal(report, shard, named)?;
            report.about(None);
            let manifest = named.manifest.as_ref().ok();
            let (groups, entries) = to_replay.filter(|_| manifest.is_some()).unzip();
            let cells = vec![
                shard.into(),
                Cell::text(&named.name),
                manifest.map_or(Cell::Absent, |manifest| count(manifest.partitions.len())),
                Cell::of(manifest.map(|manifest| manifest.capacity)),
                groups.map_or(Cell::Absent, count),
                Cell::of(entries),
            ];
            report.row(&SHARDS, cells)?;
            for part in manifest.iter().flat_map(|manifest| &manifest.partitions) {
                let log = self.logs.entry(part.id()).or_default();
                (log.shard, log.part) = (shard, Some(part));
            }
        }
        Ok(())
    }

    /// Reads a shard's journal; gives its groups and entries to replay, and takes note of their logs.
    fn journal(
        &mut self,
        report: &mut Report<'_>,
        shard: u16,
        named: &Named,
    ) -> io::Result<Option<(usize, u64)>> {
        let path = self.around.layout().journal(ShardIndex(shard));
        report.about(Some(&path));
        let source = match Source::open(&path) {
            Ok(source) => source,
            Err(error) => return report.unreadable(&path, &error.to_string()).map(|()| None),
        };
        let journal = Journal { source: &source, manifest: Some((self.around, named)) };
        let summary = journal.walk(report, false)?;
        for (id, (batches, end)) in summary.logs {
            let log = self.logs.entry(id).or_default();
            (log.shard, log.batches_to_replay, log.journal_end) = (shard, batches, end);
        }
        Ok(Some((summary.groups_to_replay, summary.entries_to_replay)))
    }

    fn topics(&self, report: &mut Report<'_>) -> io::Result<()> {
        let mut by_topic: BTreeMap<TopicId, Vec<&Log<'_>>> = BTreeMap::new();
        for (id, log) in &self.logs {
            by_topic.entry(id.topic).or_default().push(log);
        }
        let mut topics: Vec<&Topic> = Vec::new();
        if let Some(image) = self.image() {
            topics.extend(image.topics().chain(image.deleting_topics()).map(AsRef::as_ref));
        }
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        for topic in topics {
            let state = match topic.state {
                TopicState::Live => "live",
                TopicState::Deleting => "deleting",
            };
            let logs = by_topic.remove(&topic.id).unwrap_or_default();
            let partitions = topic.partitions.into();
            report.row(&TOPICS, topic_row(Cell::text(&topic.name), topic.id, state, partitions, &logs))?;
        }
        for (id, logs) in by_topic {
            report.row(&TOPICS, topic_row(Cell::Absent, id, "not in metadata", count(logs.len()), &logs))?;
        }
        Ok(())
    }

    fn logs(&self, report: &mut Report<'_>) -> io::Result<()> {
        let name = |id: PartitionId| log_name(Some(self.around), id);
        let mut logs: Vec<_> = self.logs.iter().map(|(id, log)| (name(*id), *id, log)).collect();
        logs.sort_by(|a, b| (topic_of(&a.0), a.1.index).cmp(&(topic_of(&b.0), b.1.index)));
        for (name, id, log) in logs {
            for segment in log.segments() {
                self.segment(report, id, log, segment)?;
            }
            report.about(None);
            let cells = vec![
                Cell::Text(name),
                log.shard.into(),
                log.start().into(),
                log.end().into(),
                log.batches_to_replay.into(),
                count(log.segments().len()),
                log.flushed_bytes().into(),
                file_bytes(&self.around.layout().partition(id)).into(),
                log.part.map_or(Cell::Absent, |part| count(part.producers.len())),
                Cell::text(id.topic),
                id.index.get().into(),
            ];
            report.row(&LOGS, cells)?;
        }
        Ok(())
    }

    /// A segment's file must have what was flushed of it.
    fn segment(
        &self,
        report: &mut Report<'_>,
        id: PartitionId,
        log: &Log<'_>,
        segment: &Segment,
    ) -> io::Result<()> {
        let file = SegmentFile { partition: id, base: Offset(segment.base) };
        let path = self.around.layout().segment(file, SegmentPart::Log);
        // The last partial block of a log's last segment is the manifest's to keep.
        let is_last = log.segments().last().is_some_and(|last| last.base == segment.base);
        let kept = log.part.filter(|_| is_last).map_or(0, |part| part.tail_fragment.len() as u64);
        let due = segment.length.saturating_sub(kept);
        let found = fs::metadata(&path).map(|metadata| metadata.len());
        if found.as_ref().map_or(due == 0, |bytes| *bytes >= due)
            || !self.is_still_due(id, log.shard, segment)
        {
            return Ok(());
        }
        report.about(Some(&path));
        match found {
            Ok(bytes) => {
                report.damage(Some(bytes), &format!("the file ends here, and {due} bytes were flushed"))
            }
            Err(error) => report.unreadable(&path, &error.to_string()),
        }
    }

    /// Whether a segment is still what its manifest says: a running broker may have removed it meanwhile.
    fn is_still_due(&self, id: PartitionId, shard: u16, segment: &Segment) -> bool {
        if !self.around.is_in_use() {
            return true;
        }
        let named = self.around.manifest(ShardIndex(shard));
        let now = named.and_then(|named| self.around.read_manifest(&named.name).ok());
        let mut parts = now.iter().flat_map(|manifest| &manifest.partitions).filter(|part| part.id() == id);
        parts.any(|part| part.segments.iter().any(|one| one.base == segment.base))
    }

    fn leftovers(&self, report: &mut Report<'_>) -> io::Result<()> {
        let is_named = |name: &String| self.around.manifests().iter().any(|one| one.name == *name);
        let manifests = names(&self.around.layout().manifests());
        let extra = manifests.iter().filter(|name| !is_named(name)).count();
        if extra > 0 && self.around.root().is_ok() {
            report.note(&format!(
                "{extra} files in manifest/ that the root does not name: a start removes them"
            ))?;
        }
        Ok(())
    }
}

/// Logs of one topic stand together, by number and not by text.
fn topic_of(log: &str) -> &str {
    log.rsplit_once('/').map_or(log, |(topic, _)| topic)
}

fn metadata_facts(image: &MetadataImage) -> Facts {
    vec![
        ("metadata_revision", image.revision().0.into()),
        ("epoch_counter", Cell::of(image.epoch().map(|epoch| epoch.get()))),
        ("brokers", count(image.brokers().len())),
        ("topics", count(image.topics().count())),
    ]
}

fn topic_row(name: Cell, id: TopicId, state: &str, partitions: Cell, logs: &[&Log<'_>]) -> Vec<Cell> {
    let segments = logs.iter().map(|log| log.segments().len()).sum();
    let bytes = logs.iter().map(|log| log.flushed_bytes()).fold(0, u64::saturating_add);
    let offsets: i128 = logs.iter().map(|log| i128::from(log.end()) - i128::from(log.start())).sum();
    let id = Cell::text(id);
    vec![name, id, Cell::text(state), partitions, count(segments), bytes.into(), Cell::Number(offsets)]
}

/// Staging files of this directory, which hold what its journals do not have yet.
fn staging_files(directory: &str) -> usize {
    let prefix = format!("corelane-{directory}-");
    names(Path::new(STAGING_PATH)).iter().filter(|name| name.starts_with(&prefix)).count()
}

/// All segments of a log, whether or not a manifest names them. Bytes.
fn file_bytes(folder: &Path) -> u64 {
    let segments = names(folder).into_iter().filter(|name| name.ends_with(".log"));
    segments.filter_map(|name| fs::metadata(folder.join(name)).ok()).map(|metadata| metadata.len()).sum()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Folder, dumped, manifest};
    use super::*;

    /// A directory with one log of one segment, 5000 bytes of which are flushed, and an empty journal.
    fn directory(test: &str) -> (Folder, String) {
        let folder = Folder::new(test);
        let mut manifest = manifest();
        let id = PartitionId { topic: TopicId([9; 16]), index: corelane_shards::types::PartitionIndex(0) };
        let segment = Segment { base: 0, length: 5000, max_timestamp: -1, created: 1 };
        let mut part = Partition { end: 7, segments: vec![segment], ..Partition::empty(id) };
        part.tail_fragment = vec![1; 904];
        manifest.partitions.push(part);
        folder.directory(&manifest);
        folder.write("journal/0", &vec![0; usize::try_from(manifest.capacity).unwrap()]);
        (folder, format!("topics/{}/0/00000000000000000000.log", id.topic))
    }

    #[test]
    fn a_whole_directory_is_told_at_a_glance() {
        let (folder, segment) = directory("overview");
        folder.write(&segment, &[1; 4096]);
        let dumped = dumped(folder.path(), &["--json"]);
        let (shard, log) = (&dumped.objects("shard")[0], &dumped.objects("log")[0]);
        assert_eq!((dumped.code, &shard["logs"], &shard["groups_to_replay"]), (0, &1.into(), &0.into()));
        assert_eq!(
            (&log["end"], &log["flushed_bytes"], &log["file_bytes"]),
            (&7.into(), &5000.into(), &4096.into())
        );
        assert_eq!(dumped.objects("directory")[0]["stopped_cleanly"], false);
    }

    #[test]
    fn parts_that_are_missing_or_too_short_are_found() {
        let (folder, segment) = directory("overview-short");
        let path = folder.write(&segment, &[1; 4095]);
        let short = dumped(folder.path(), &[]);
        assert!(short.code == 1 && short.text.contains("at byte 4095"), "{}", short.text);
        fs::remove_file(&path).unwrap();
        assert!(dumped(folder.path(), &[]).text.contains("UNREADABLE"));
        folder.write(&segment, &[1; 4096]);
        fs::remove_file(folder.path().join("journal/0")).unwrap();
        let missing = dumped(folder.path(), &["--json"]);
        assert_eq!((missing.code, missing.objects("unreadable").len()), (1, 1));
        folder.write("root", b"CLroot\0\0");
        let rootless = dumped(folder.path(), &["--json"]);
        assert_eq!((rootless.code, rootless.objects("damage").len()), (1, 1));
    }
}
