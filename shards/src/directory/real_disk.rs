//! [`RealDisk`]: what recovery asks of a data directory, on a real file system, with direct I/O and blocking calls.
//!
//! Beside the steps of recovery it has those that only a running shard needs and that happen rarely: growing a journal,
//! creating a segment ahead of its first write, removing a log. Writes go around the page cache, so a flush has only the
//! device's cache and the file system's own records to wait for. The disk does not know what the bytes mean.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::{Errno, retry_on_intr};

use super::direct::Direct;
use super::files::{self, FileError, naming};
use super::identity;
use super::layout::{Layout, SegmentPart, segment_base};
use super::staging_file::{self, StagingFolder};
use crate::core::effect::SegmentFile;
use crate::core::recovery::{Disk, DiskError, IndexFiles};
use crate::limits::INDEX_FILE_BYTES_MAX;
use crate::types::{Generation, PartitionId, ShardIndex};

/// The longest manifest or root that is read into memory. Bytes.
const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// A data directory that this process has locked.
///
/// It keeps the segment used last open, so a log's files are created and removed through one value at a time.
pub struct RealDisk {
    layout: Layout,
    staging: Option<StagingFolder>,
    direct: Direct,
    /// The segment used last, kept open: recovery writes, trims and flushes one file after the other.
    last: Option<(SegmentFile, File)>,
    /// Directories whose own entry in their parent is known to be durable.
    durable: BTreeSet<PathBuf>,
}

impl RealDisk {
    /// The directory with this layout. `staging` is where former processes left their staging memory, if there is such a
    /// place.
    pub fn new(layout: Layout, staging: Option<StagingFolder>) -> RealDisk {
        RealDisk { layout, staging, direct: Direct::new(), last: None, durable: BTreeSet::new() }
    }

    /// Opens a segment's file for direct reads and writes, for a ring that holds the directory's fence.
    pub fn open_segment(layout: &Layout, file: SegmentFile) -> Result<OwnedFd, DiskError> {
        let path = layout.segment(file, SegmentPart::Log);
        Ok(Direct::open(&path, true, false).map_err(naming("opening", &path))?.into())
    }

    /// Opens a shard's journal in the same way.
    pub fn open_journal(layout: &Layout, shard: ShardIndex) -> Result<OwnedFd, DiskError> {
        let path = layout.journal(shard);
        Ok(Direct::open(&path, true, false).map_err(naming("opening", &path))?.into())
    }

    /// Creates a segment's file and the directories that lead to it; not durable before [`Disk::flush_segment`].
    pub fn create_segment(&mut self, file: SegmentFile) -> Result<(), DiskError> {
        self.segment_to_write(file).map(drop)
    }

    /// Makes the directories that lead to a segment's file durable.
    pub fn flush_segment_directory(&mut self, file: SegmentFile) -> Result<(), DiskError> {
        let partition = self.layout.partition(file.partition);
        files::flush_directory(&partition)?;
        for directory in [&partition, &self.layout.topic(file.partition), &self.layout.topics()] {
            if !self.durable.contains(directory) {
                files::flush_directory(files::parent(directory))?;
                self.durable.insert(directory.clone());
            }
        }
        Ok(())
    }

    /// Removes a deleted log's files, and its topic's directory with the last log in it. What a crash undoes is removed
    /// again: the metadata store still says that the log was deleted.
    pub fn remove_partition(&mut self, partition: PartitionId) -> Result<(), DiskError> {
        self.forget(partition);
        let path = self.layout.partition(partition);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(naming("removing", &path)(error))?,
            _ => {}
        }
        let topic = self.layout.topic(partition);
        match fs::remove_dir(&topic) {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) =>
            {
                Err(naming("removing", &topic)(error))?
            }
            _ => Ok(()),
        }
    }

    fn forget(&mut self, partition: PartitionId) {
        self.last.take_if(|(file, _)| file.partition == partition);
        self.durable.remove(&self.layout.partition(partition));
        self.durable.remove(&self.layout.topic(partition));
    }

    fn segment_path(&self, file: SegmentFile) -> PathBuf {
        self.layout.segment(file, SegmentPart::Log)
    }

    /// The segment's file, if there is one.
    fn segment(&mut self, file: SegmentFile) -> Result<Option<&File>, DiskError> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != file) {
            let path = self.segment_path(file);
            match Direct::open(&path, true, false) {
                Ok(opened) => self.last = Some((file, opened)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => Err(naming("opening", &path)(error))?,
            }
        }
        Ok(self.last.as_ref().map(|(_, opened)| opened))
    }

    fn segment_that_exists(&mut self, file: SegmentFile) -> Result<&File, DiskError> {
        let path = self.segment_path(file);
        let missing = || naming("opening", &path)(io::ErrorKind::NotFound.into());
        Ok(self.segment(file)?.ok_or_else(missing)?)
    }

    fn segment_to_write(&mut self, file: SegmentFile) -> Result<&File, DiskError> {
        if self.segment(file)?.is_none() {
            self.require_home()?;
            let path = self.segment_path(file);
            let directory = files::parent(&path);
            fs::create_dir_all(directory).map_err(naming("creating", directory))?;
            let opened = Direct::open(&path, true, true).map_err(naming("creating", &path))?;
            self.last = Some((file, opened));
        }
        self.segment_that_exists(file)
    }

    /// Whether the data directory is still where it was. If its file system was taken away under a running broker, making
    /// it anew on what lies beneath would let a manifest be committed there, and the journal be trimmed for it.
    fn require_home(&self) -> Result<(), DiskError> {
        let format = self.layout.format();
        fs::metadata(&format).map(drop).map_err(|error| naming("looking for", &format)(error).into())
    }

    fn manifest_path(&self, name: &str) -> Result<PathBuf, DiskError> {
        let refused = || {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "this is no manifest's name");
            naming("naming", Path::new(name))(error)
        };
        Ok(self.layout.manifest(name).ok_or_else(refused)?)
    }
}

impl Disk for RealDisk {
    fn read_root(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(files::read(&self.layout.root(), MANIFEST_BYTES_MAX)?)
    }

    fn replace_root(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        Ok(files::replace(&self.layout.root(), bytes)?)
    }

    fn read_manifest(&mut self, name: &str) -> Result<Vec<u8>, DiskError> {
        let path = self.manifest_path(name)?;
        let missing = || naming("reading", &path)(io::ErrorKind::NotFound.into());
        Ok(files::read(&path, MANIFEST_BYTES_MAX)?.ok_or_else(missing)?)
    }

    fn replace_manifest(&mut self, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
        self.require_home()?;
        files::create_directories(&self.layout.manifests())?;
        Ok(files::replace(&self.manifest_path(name)?, bytes)?)
    }

    fn retain_manifests(&mut self, names: &[String]) -> Result<(), DiskError> {
        let folder = self.layout.manifests();
        for name in files::names(&folder)? {
            if !names.contains(&name) {
                files::remove(&folder.join(name))?;
            }
        }
        Ok(())
    }

    fn journal_bytes(&mut self, shard: ShardIndex) -> Result<Option<u64>, DiskError> {
        file_bytes(&self.layout.journal(shard))
    }

    fn create_journal(&mut self, shard: ShardIndex, bytes: u64) -> Result<(), DiskError> {
        files::create_directories(&self.layout.journals())?;
        let path = self.layout.journal(shard);
        let new = files::temporary(&path);
        files::remove(&new)?;
        let mut write = || {
            let file = Direct::open(&new, true, true)?;
            reserve(&file, bytes)?;
            self.direct.write_zeros(&file, 0, bytes)?;
            file.sync_all()
        };
        write().map_err(naming("writing", &new))?;
        Ok(files::rename(&new, &path)?)
    }

    fn extend_journal(&mut self, shard: ShardIndex, from: u64, to: u64) -> Result<(), DiskError> {
        let path = self.layout.journal(shard);
        let mut extend = || {
            let file = Direct::open(&path, true, false)?;
            reserve(&file, to)?;
            // The file may be this long already, from a growth that was never finished: its space is written all the same.
            self.direct.write_zeros(&file, from, to)?;
            file.sync_all()
        };
        Ok(extend().map_err(naming("growing", &path))?)
    }

    fn read_journal(&mut self, shard: ShardIndex, position: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let path = self.layout.journal(shard);
        let read =
            Direct::open(&path, false, false).and_then(|file| self.direct.read(&file, position, buffer));
        let cut = || naming("reading", &path)(io::ErrorKind::UnexpectedEof.into());
        if read.map_err(naming("reading", &path))? < buffer.len() {
            return Err(cut().into());
        }
        Ok(())
    }

    fn staged(&mut self, shard: ShardIndex) -> Result<Option<Vec<u8>>, DiskError> {
        let Some(staging) = &self.staging else { return Ok(None) };
        staging.read(shard).map_err(|error| match error {
            staging_file::Error::File(error) => error.into(),
            other => {
                DiskError::Io { what: "reading staging memory".to_owned(), source: io::Error::other(other) }
            }
        })
    }

    fn segment_bytes(&mut self, file: SegmentFile) -> Result<Option<u64>, DiskError> {
        file_bytes(&self.segment_path(file))
    }

    fn read_segment(
        &mut self,
        file: SegmentFile,
        position: u64,
        length: usize,
    ) -> Result<Option<Vec<u8>>, DiskError> {
        let path = self.segment_path(file);
        let Some(opened) = self.segment(file)? else { return Ok(None) };
        let opened = opened.try_clone().map_err(naming("opening", &path))?;
        let available = opened.metadata().map_err(naming("examining", &path))?.len().saturating_sub(position);
        // What there is bounds the allocation, whatever was asked for.
        let mut bytes = vec![0; usize::try_from(available).map_or(length, |available| available.min(length))];
        let read = self.direct.read(&opened, position, &mut bytes).map_err(naming("reading", &path))?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    fn write_segment(&mut self, file: SegmentFile, position: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let path = self.segment_path(file);
        let opened = self.segment_to_write(file)?.try_clone().map_err(naming("opening", &path))?;
        Ok(self.direct.write(&opened, position, bytes).map_err(naming("writing", &path))?)
    }

    fn replace_segment(&mut self, file: SegmentFile, bytes: &[u8]) -> Result<(), DiskError> {
        self.require_home()?;
        let path = self.segment_path(file);
        let (directory, new) = (files::parent(&path), files::temporary(&path));
        fs::create_dir_all(directory).map_err(naming("creating", directory))?;
        files::remove(&new)?;
        let mut write = || {
            let opened = Direct::open(&new, true, true)?;
            self.direct.write(&opened, 0, bytes)?;
            opened.sync_all()
        };
        write().map_err(naming("writing", &new))?;
        // The name leads to another file from here on.
        self.last.take_if(|(last, _)| *last == file);
        files::rename(&new, &path)?;
        self.flush_segment_directory(file)
    }

    fn trim_segment(&mut self, file: SegmentFile, length: u64) -> Result<(), DiskError> {
        let path = self.segment_path(file);
        let opened = self.segment_that_exists(file)?;
        let cut = || {
            if opened.metadata()?.len() > length {
                opened.set_len(length)?;
                opened.sync_all()?;
            }
            Ok(())
        };
        Ok(cut().map_err(naming("trimming", &path))?)
    }

    fn flush_segment(&mut self, file: SegmentFile) -> Result<(), DiskError> {
        let path = self.segment_path(file);
        self.segment_that_exists(file)?.sync_all().map_err(naming("flushing", &path))?;
        self.flush_segment_directory(file)
    }

    fn retain_segments(&mut self, partition: PartitionId, bases: &[i64]) -> Result<(), DiskError> {
        let folder = self.layout.partition(partition);
        // A replacement that was never finished counts for nothing, whatever it is to replace.
        let is_unfinished =
            |name: &str| name.strip_suffix(".new").is_some_and(|whole| segment_base(whole).is_some());
        let is_extra = |name: &String| {
            is_unfinished(name) || segment_base(name).is_some_and(|base| !bases.contains(&base.get()))
        };
        let extra: Vec<String> = files::names(&folder)?.into_iter().filter(is_extra).collect();
        if extra.is_empty() {
            return Ok(());
        }
        self.last.take_if(|(file, _)| file.partition == partition);
        for name in extra {
            files::remove(&folder.join(name))?;
        }
        // A file that came back after a crash could be taken for a later segment of the same name.
        Ok(files::flush_directory(&folder)?)
    }

    fn read_index(&mut self, file: SegmentFile) -> Result<Option<IndexFiles>, DiskError> {
        let read = |part| files::read(&self.layout.segment(file, part), INDEX_FILE_BYTES_MAX);
        let (offsets, times) = (read(SegmentPart::Index)?, read(SegmentPart::Time)?);
        if offsets.is_none() && times.is_none() {
            return Ok(None);
        }
        Ok(Some(IndexFiles { offsets: offsets.unwrap_or_default(), times: times.unwrap_or_default() }))
    }

    fn write_index(&mut self, file: SegmentFile, index: &IndexFiles) -> Result<(), DiskError> {
        files::replace_unflushed(&self.layout.segment(file, SegmentPart::Index), &index.offsets)?;
        Ok(files::replace_unflushed(&self.layout.segment(file, SegmentPart::Time), &index.times)?)
    }

    fn new_generation(&mut self) -> Generation {
        Generation(u64::from_le_bytes(identity::random()))
    }
}

impl From<FileError> for DiskError {
    fn from(error: FileError) -> DiskError {
        let FileError { doing, path, source } = error;
        DiskError::Io { what: format!("{doing} {}", path.display()), source }
    }
}

/// The size of a file, if there is one.
fn file_bytes(path: &Path) -> Result<Option<u64>, DiskError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(naming("examining", path)(error))?,
    }
}

/// Takes space before it is written, so that it lies together and a full disk is found at once. A file system that
/// cannot do it gets by without.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, bytes)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
