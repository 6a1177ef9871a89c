//! Staging memory that outlives a killed process: one file for each shard, in a file system in memory.
//!
//! ```text
//! corelane-<directory id>-<shard>-<epoch>     chunk 0 | chunk 1 | ... | label (one block, last)
//! ```
//!
//! The label says of which boot and directory the chunks are; it lies behind them, so that the chunks begin where the
//! mapping begins, and is written when the file has all its space. A file without a label that matches is nothing.
//!
//! Each opening of the directory makes files of its own epoch, after its manifests are durable, and only then removes
//! older ones: until then recovery may have to read them again. The file of the largest epoch is the one that counts;
//! whether its groups continue a journal, their generation says, which no label needs to repeat.
//!
//! A process locks its files, so that a copy of a data directory cannot take over the original's. Names in a folder where
//! everybody may write are not trusted: no link is followed, and a file of another user, or that others could open, is
//! not read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags, fallocate, flock};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::geteuid;

use super::files::{self, FileError, naming};
use super::identity::{self, DirectoryId};
use super::opening;
use crate::limits::BLOCK_BYTES;
use crate::memory::Mapping;
use crate::types::{LeaderEpoch, ShardIndex};

/// The version of the label.
pub const VERSION: u16 = 1;

/// The largest staging memory of a shard that is read back. Bytes.
pub const STAGING_BYTES_MAX: u64 = 1 << 36;

const MAGIC: [u8; 8] = *b"CLstage\0";
const LABEL_BYTES: usize = 64;
const CRC_AT: usize = LABEL_BYTES - 4;
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How long the lock of a file may stay with a process that is just ending.
const ENDING_WAIT: Duration = Duration::from_millis(500);
const POLL: Duration = Duration::from_millis(2);

/// Why there is no staging memory that outlives the process.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder does not lie in memory, so that every copy would be a disk's work.
    #[error("{} is no tmpfs", .0.display())]
    NotInMemory(PathBuf),
    /// The file system has no room.
    #[error("{} has no room for staging memory: {needed} bytes are needed, and {free} are free", path.display())]
    TooSmall {
        /// The folder.
        path: PathBuf,
        /// For one shard. Bytes.
        needed: u64,
        /// In the file system. Bytes.
        free: u64,
    },
    /// Another process has the file: it runs on a copy of this data directory, or on the original of this copy.
    #[error(
        "another process uses the staging file {}; a data directory and its copy cannot be used side by side",
        .0.display()
    )]
    InUse(PathBuf),
}

impl Error {
    /// Whether the broker may go on with private memory: only the way to acks=1 gets longer. Otherwise the data directory
    /// itself is in doubt.
    pub fn is_lack_of_memory(&self) -> bool {
        !matches!(self, Error::InUse(_))
    }
}

/// The folder of the staging files of one data directory.
#[derive(Clone, Debug)]
pub struct StagingFolder {
    path: PathBuf,
    directory: DirectoryId,
    boot: [u8; 16],
}

/// A shard's staging file, locked by this process.
#[derive(Debug)]
pub struct StagingFile {
    file: File,
    path: PathBuf,
    bytes: usize,
}

impl StagingFolder {
    /// The folder at `path`, which must lie in a tmpfs.
    pub fn open(path: &Path, directory: DirectoryId) -> Result<StagingFolder, Error> {
        if opening::magic(&opening::statfs(path)?) != opening::TMPFS {
            return Err(Error::NotInMemory(path.to_owned()));
        }
        Ok(StagingFolder { path: path.to_owned(), directory, boot: boot_id()? })
    }

    /// The chunks that the last process left for a shard, if it ran since the machine was started.
    pub fn read(&self, shard: ShardIndex) -> Result<Option<Vec<u8>>, Error> {
        let own = self.own_files()?.into_iter().filter(|own| own.shard == shard);
        let Some(newest) = own.max_by_key(|own| own.epoch) else { return Ok(None) };
        let path = self.path.join(&newest.name);
        let Some((file, length)) = open_own(&path)? else { return Ok(None) };
        if !lock(&file, ENDING_WAIT).map_err(naming("locking", &path))? {
            return Err(Error::InUse(path));
        }
        let Some(at) = length.checked_sub(BLOCK_BYTES as u64).filter(|at| *at <= STAGING_BYTES_MAX) else {
            return Ok(None);
        };
        let mut label = [0; LABEL_BYTES];
        file.read_exact_at(&mut label, at).map_err(naming("reading", &path))?;
        let found = Label::decode(&label);
        let is_ours = |l: &Label| {
            (l.boot, l.directory, l.shard, l.epoch, l.bytes)
                == (self.boot, self.directory, shard, newest.epoch, at)
        };
        if !found.as_ref().is_some_and(is_ours) {
            tracing::info!(path = %path.display(), "a staging file of another boot, or never finished, is left aside");
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(at).expect("bounded above")];
        file.read_exact_at(&mut bytes, 0).map_err(naming("reading", &path))?;
        Ok(Some(bytes))
    }

    /// Refuses if another process uses a file of this directory: it runs on a copy of it, or on the original of this copy.
    /// A directory that was stopped cleanly has nothing to read back, and would not notice.
    pub fn check_unused(&self) -> Result<(), Error> {
        for own in self.own_files()? {
            let path = self.path.join(&own.name);
            let Some((file, _)) = open_own(&path)? else { continue };
            if !lock(&file, ENDING_WAIT).map_err(naming("locking", &path))? {
                return Err(Error::InUse(path));
            }
        }
        Ok(())
    }

    /// A new file for a shard of the opening that stamps `epoch`, whose manifests are durable. All its space is taken, so
    /// that no store into it can fail later.
    ///
    /// # Panics
    /// If `chunk_bytes` is not whole blocks, or there is no chunk.
    pub fn create(
        &self,
        shard: ShardIndex,
        epoch: LeaderEpoch,
        chunks: usize,
        chunk_bytes: usize,
    ) -> Result<StagingFile, Error> {
        assert!(chunks > 0 && chunk_bytes > 0, "staging memory holds a chunk or more");
        assert!(chunk_bytes.is_multiple_of(BLOCK_BYTES), "chunks are whole blocks");
        let bytes =
            chunks.checked_mul(chunk_bytes).expect("staging memory is smaller than the address space");
        let path = self.path.join(self.name(shard, epoch));
        let file = create_new(&path)?;
        self.fill(
            &file,
            &path,
            Label {
                boot: self.boot,
                directory: self.directory,
                shard,
                epoch,
                bytes: bytes as u64,
                chunk_bytes: chunk_bytes as u64,
            },
        )
        .inspect_err(|_| {
            // An unfinished file has no label, so one that stays behind is believed by nobody.
            let _best_effort = files::remove(&path);
        })?;
        Ok(StagingFile { file, path, bytes })
    }

    fn fill(&self, file: &File, path: &Path, label: Label) -> Result<(), Error> {
        if !lock(file, ENDING_WAIT).map_err(naming("locking", path))? {
            return Err(Error::InUse(path.to_owned()));
        }
        let needed = label.bytes + BLOCK_BYTES as u64;
        // Asked before it is taken: the kernel would fill the file system up before it said no.
        let free = self.bytes_free()?;
        let too_small = || Error::TooSmall { path: self.path.clone(), needed, free };
        if free < needed {
            return Err(too_small());
        }
        match retry_on_intr(|| fallocate(file, FallocateFlags::empty(), 0, needed)) {
            Ok(()) => {}
            Err(Errno::NOSPC | Errno::NOMEM | Errno::FBIG | Errno::DQUOT) => return Err(too_small()),
            Err(error) => return Err(naming("reserving the space of", path)(error.into()).into()),
        }
        Ok(file.write_all_at(&label.encode(), label.bytes).map_err(naming("writing", path))?)
    }

    /// What the file system says is free. One without a limit reports no blocks at all, and is asked by taking.
    fn bytes_free(&self) -> Result<u64, FileError> {
        let found = opening::statfs(&self.path)?;
        let block = u64::try_from(found.f_bsize).unwrap_or(0);
        Ok(if found.f_blocks == 0 { u64::MAX } else { found.f_bavail.saturating_mul(block) })
    }

    /// Removes this directory's files of openings before `epoch`, whose manifests are durable, for whatever shard.
    pub fn remove_before(&self, epoch: LeaderEpoch) -> Result<(), Error> {
        self.remove(|own| own.epoch < epoch)
    }

    /// Removes all files of this directory: it was stopped cleanly, and its journals are empty.
    pub fn remove_all(&self) -> Result<(), Error> {
        self.remove(|_| true)
    }

    fn remove(&self, is_due: impl Fn(&OwnFile) -> bool) -> Result<(), Error> {
        for own in self.own_files()?.iter().filter(|own| is_due(own)) {
            files::remove(&self.path.join(&own.name))?;
        }
        Ok(())
    }

    fn name(&self, shard: ShardIndex, epoch: LeaderEpoch) -> String {
        format!("corelane-{}-{shard}-{epoch}", self.directory)
    }

    /// The files whose names are this directory's.
    fn own_files(&self) -> Result<Vec<OwnFile>, Error> {
        let prefix = format!("corelane-{}-", self.directory);
        let parse = |name: String| {
            let (shard, epoch) = name.strip_prefix(&prefix)?.split_once('-')?;
            let (shard, epoch) = (ShardIndex(shard.parse().ok()?), LeaderEpoch(epoch.parse().ok()?));
            Some(OwnFile { shard, epoch, name })
        };
        Ok(files::names(&self.path)?.into_iter().filter_map(parse).collect())
    }
}

impl StagingFile {
    /// Maps the chunks, shared: what is stored survives the death of the process.
    pub fn map(&self) -> io::Result<Mapping> {
        Mapping::shared(&self.file, self.bytes)
    }

    /// Removes a file that nobody has stored anything in. One that stays behind is removed by the next opening.
    pub fn discard(self) {
        let _best_effort = files::remove(&self.path);
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

struct OwnFile {
    shard: ShardIndex,
    epoch: LeaderEpoch,
    name: String,
}

/// The last block of a staging file; `docs/formats/directory.md` has it byte by byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Label {
    boot: [u8; 16],
    directory: DirectoryId,
    shard: ShardIndex,
    epoch: LeaderEpoch,
    /// Of all chunks together.
    bytes: u64,
    chunk_bytes: u64,
}

impl Label {
    fn encode(&self) -> [u8; LABEL_BYTES] {
        let mut bytes = [0; LABEL_BYTES];
        let mut at = 0;
        let mut put = |field: &[u8]| {
            bytes[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        };
        put(&MAGIC);
        put(&VERSION.to_le_bytes());
        put(&self.shard.get().to_le_bytes());
        put(&self.epoch.get().to_le_bytes());
        put(&self.boot);
        put(&self.directory.0);
        put(&self.bytes.to_le_bytes());
        put(&u32::try_from(self.chunk_bytes).expect("a chunk is shorter than 4 GiB").to_le_bytes());
        assert_eq!(at, CRC_AT, "the checksum comes last");
        let sum = crc32fast::hash(&bytes[..CRC_AT]);
        bytes[CRC_AT..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The label in a file's last block, if there is one and this release knows its version.
    fn decode(bytes: &[u8; LABEL_BYTES]) -> Option<Label> {
        let (mut rest, sum) = bytes.split_at(CRC_AT);
        let stored = u32::from_le_bytes(sum.try_into().ok()?);
        let is_whole = stored == crc32fast::hash(rest);
        let magic = take::<8>(&mut rest)?;
        let version = u16::from_le_bytes(take(&mut rest)?);
        let label = Label {
            shard: ShardIndex(u16::from_le_bytes(take(&mut rest)?)),
            epoch: LeaderEpoch(i32::from_le_bytes(take(&mut rest)?)),
            boot: take(&mut rest)?,
            directory: DirectoryId(take(&mut rest)?),
            bytes: u64::from_le_bytes(take(&mut rest)?),
            chunk_bytes: u64::from(u32::from_le_bytes(take(&mut rest)?)),
        };
        let chunk_bytes = label.chunk_bytes;
        let fits = chunk_bytes.is_multiple_of(BLOCK_BYTES as u64)
            && chunk_bytes > 0
            && label.bytes.is_multiple_of(chunk_bytes);
        (is_whole && magic == MAGIC && version == VERSION && fits).then_some(label)
    }
}

/// The next `N` bytes.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*field)
}

/// Creates a file that only this user may open. One that is there already is from an opening whose root was taken back,
/// or from somebody else; unless a process has it, it counts for nothing, since the manifests of this opening are durable.
fn create_new(path: &Path) -> Result<File, Error> {
    let create = || {
        let flags = i32::try_from(OFlags::NOFOLLOW.bits()).expect("open's flags are an int");
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)
    };
    match create() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if let Some((file, _)) = open_own(path)?
                && !lock(&file, ENDING_WAIT).map_err(naming("locking", path))?
            {
                return Err(Error::InUse(path.to_owned()));
            }
            files::remove(path)?;
            Ok(create().map_err(naming("creating", path))?)
        }
        other => Ok(other.map_err(naming("creating", path))?),
    }
}

/// Opens a file for reading if it is a plain file of this user that nobody else can open; gives its length along.
fn open_own(path: &Path) -> Result<Option<(File, u64)>, FileError> {
    let flags = i32::try_from((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits()).expect("open's flags are an int");
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a staging file cannot be opened and is left aside");
            return Ok(None);
        }
    };
    let metadata = file.metadata().map_err(naming("examining", path))?;
    let is_private =
        metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0 && metadata.nlink() == 1;
    if !metadata.is_file() || !is_private {
        tracing::warn!(path = %path.display(), "a staging file that others may have written is left aside");
        return Ok(None);
    }
    Ok(Some((file, metadata.len())))
}

/// Locks a file for as long as it is open; false if another process keeps it for longer than `wait`.
fn lock(file: &File, wait: Duration) -> io::Result<bool> {
    let start = Instant::now();
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) if start.elapsed() < wait => thread::sleep(POLL),
            Err(Errno::WOULDBLOCK | Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

fn boot_id() -> Result<[u8; 16], FileError> {
    let path = Path::new(BOOT_ID);
    let text = std::fs::read_to_string(path).map_err(naming("reading", path))?;
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "it is no UUID");
    identity::parse(text.trim_end()).ok_or_else(malformed).map_err(naming("reading", path))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    const SHARD: ShardIndex = ShardIndex(3);
    const EPOCH: LeaderEpoch = LeaderEpoch(7);
    const CHUNK: usize = 4 * BLOCK_BYTES;

    /// A folder of a new directory in the machine's tmpfs; its files are removed at the end.
    struct Scratch(StagingFolder);

    impl Scratch {
        fn new() -> Scratch {
            Scratch(StagingFolder::open(Path::new("/dev/shm"), DirectoryId::random()).expect("a tmpfs"))
        }

        fn path(&self, epoch: LeaderEpoch) -> PathBuf {
            self.0.path.join(self.0.name(SHARD, epoch))
        }

        fn make(&self, epoch: LeaderEpoch, first: &[u8]) {
            let staging = self.0.create(SHARD, epoch, 2, CHUNK).unwrap();
            staging.file.write_all_at(first, 0).unwrap();
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            self.0.remove_all().expect("the files are ours");
        }
    }

    #[test]
    fn a_later_process_reads_what_was_stored_through_the_mapping() {
        let scratch = Scratch::new();
        let staging = scratch.0.create(SHARD, EPOCH, 2, CHUNK).unwrap();
        let memory = crate::memory::Staging::new(std::rc::Rc::new(staging.map().unwrap()), CHUNK);
        assert_eq!(memory.chunks(), 2);
        let mut chunk = memory.take(crate::memory::ChunkIndex(1)).unwrap();
        chunk.write(CHUNK - 5, b"hello");
        let metadata = fs::metadata(staging.path()).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert!(metadata.blocks() * 512 >= (2 * CHUNK + BLOCK_BYTES) as u64, "all its space is taken");
        drop((staging, chunk, memory));
        let read = scratch.0.read(SHARD).unwrap().expect("of this boot and directory");
        assert_eq!(read.len(), 2 * CHUNK);
        assert_eq!(&read[2 * CHUNK - 5..], b"hello");
        assert_eq!(scratch.0.read(ShardIndex(0)).unwrap(), None);
    }

    #[test]
    fn the_newest_file_counts_and_older_ones_go() {
        let scratch = Scratch::new();
        scratch.make(LeaderEpoch(9), b"old");
        scratch.make(LeaderEpoch(10), b"new");
        assert_eq!(&scratch.0.read(SHARD).unwrap().unwrap()[..3], b"new");
        scratch.0.remove_before(LeaderEpoch(10)).unwrap();
        assert!(!scratch.path(LeaderEpoch(9)).exists() && scratch.path(LeaderEpoch(10)).exists());
    }

    #[test]
    fn another_boot_directory_or_shard_and_any_flipped_bit_is_not_believed() {
        let scratch = Scratch::new();
        scratch.make(EPOCH, b"");
        let file = OpenOptions::new().write(true).open(scratch.path(EPOCH)).unwrap();
        let label = Label {
            boot: scratch.0.boot,
            directory: scratch.0.directory,
            shard: SHARD,
            epoch: EPOCH,
            bytes: (2 * CHUNK) as u64,
            chunk_bytes: CHUNK as u64,
        };
        let believed = |bytes: &[u8]| {
            file.write_all_at(bytes, label.bytes).unwrap();
            scratch.0.read(SHARD).unwrap().is_some()
        };
        assert!(believed(&label.encode()));
        assert!(!believed(&Label { boot: [0; 16], ..label }.encode()));
        assert!(!believed(&Label { directory: DirectoryId([0; 16]), ..label }.encode()));
        assert!(!believed(&Label { shard: ShardIndex(0), ..label }.encode()));
        assert!(!believed(&Label { epoch: LeaderEpoch(0), ..label }.encode()));
        assert!(!believed(&Label { bytes: CHUNK as u64, ..label }.encode()));
        assert!(!believed(&Label { chunk_bytes: 3 * BLOCK_BYTES as u64, ..label }.encode()));
        for bit in 0..LABEL_BYTES * 8 {
            let mut bytes = label.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!believed(&bytes), "bit {bit}");
        }
        assert!(believed(&label.encode()));
        file.set_len(100).unwrap();
        assert!(scratch.0.read(SHARD).unwrap().is_none(), "a file shorter than a label");
    }

    #[test]
    fn links_and_files_that_others_may_write_are_left_aside() {
        let scratch = Scratch::new();
        scratch.make(EPOCH, b"secret");
        fs::set_permissions(scratch.path(EPOCH), fs::Permissions::from_mode(0o622)).unwrap();
        assert!(scratch.0.read(SHARD).unwrap().is_none());
        fs::set_permissions(scratch.path(EPOCH), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(scratch.0.read(SHARD).unwrap().is_some());
        symlink(scratch.path(EPOCH), scratch.path(LeaderEpoch(8))).unwrap();
        assert!(scratch.0.read(SHARD).unwrap().is_none(), "the link has the larger epoch");
        scratch.make(LeaderEpoch(8), b"mine");
        assert_eq!(&scratch.0.read(SHARD).unwrap().unwrap()[..4], b"mine");
        let first = OpenOptions::new().read(true).open(scratch.path(EPOCH)).unwrap();
        let mut bytes = [0; 6];
        first.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"secret", "nothing was written through the link");
    }

    #[test]
    fn a_file_in_use_is_refused() {
        let scratch = Scratch::new();
        let _original = scratch.0.create(SHARD, EPOCH, 1, CHUNK).unwrap();
        let error = scratch.0.read(SHARD).unwrap_err();
        assert!(matches!(error, Error::InUse(_)), "{error}");
        let error = scratch.0.check_unused().unwrap_err();
        assert!(matches!(error, Error::InUse(_)), "{error}");
        let error = scratch.0.create(SHARD, EPOCH, 1, CHUNK).unwrap_err();
        assert!(matches!(error, Error::InUse(_)), "{error}");
    }

    #[test]
    fn too_little_room_is_said_with_both_sizes_and_leaves_nothing_behind() {
        let scratch = Scratch::new();
        let error = scratch.0.create(SHARD, EPOCH, 1 << 20, 1 << 30).unwrap_err();
        let Error::TooSmall { needed, free, .. } = error else { panic!("{error}") };
        assert!(needed > 1 << 50 && free < needed && free > 0);
        assert!(!scratch.path(EPOCH).exists());
    }

    #[test]
    fn a_folder_on_a_disk_is_refused() {
        let error =
            StagingFolder::open(Path::new(env!("CARGO_MANIFEST_DIR")), DirectoryId::random()).unwrap_err();
        assert!(matches!(error, Error::NotInMemory(_)) && error.is_lack_of_memory());
    }
}
