//! The FUSE server: one directory with one file, `volume`, whose content is a [`Volume`].
//!
//! The kernel keeps nothing of the file back: writeback caching is never asked for and the file is opened for
//! direct I/O, so that a write that the loop device has finished is in the volume and an FSYNC finds all of
//! them there. Requests are served one at a time, so a cut lies between two requests and never inside one.
//!
//! A file handle is the number of the power-on that it was opened under. While the power is off, and for a
//! handle from before it, every request fails with EIO and changes nothing: what an old mount still tries to
//! write can never reach the volume that is mounted next.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen,
    ReplyWrite, Request, SessionACL, WriteFlags,
};

use super::device::{command, run};
use super::volume::{self, CutReport, SECTOR_BYTES, Volume};

const VOLUME_NAME: &str = "volume";
const VOLUME_INODE: INodeNo = INodeNo(2);

/// Names and attributes never change, so the kernel may keep them as long as it likes.
const ATTRIBUTES_VALID: Duration = Duration::from_secs(3600);

/// A mounted server; dropping it unmounts it and ends its thread.
pub(crate) struct Server {
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
    directory: PathBuf,
}

struct Shared {
    state: Mutex<State>,
    /// Signalled when the power goes.
    power_lost: Condvar,
}

struct State {
    volume: Volume,
    power: Power,
    /// How many times the power came on.
    power_ons: u64,
    flushes: u64,
}

#[derive(Debug, Clone, Copy)]
enum Power {
    On {
        /// Writes and flushes until the power goes by itself, if it is to.
        requests_left: Option<u64>,
    },
    Off(CutReport),
}

impl Server {
    /// Mounts the server on `directory`, powered on.
    pub(crate) fn mount(directory: &Path, volume: Volume) -> io::Result<Self> {
        let state = State { volume, power: Power::On { requests_left: None }, power_ons: 1, flushes: 0 };
        let shared = Arc::new(Shared { state: Mutex::new(state), power_lost: Condvar::new() });
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("corelane-powercut".to_owned())];
        // Requests of kernel threads carry no user; the loop device's worker is one.
        config.acl = SessionACL::All;
        let session = fuser::spawn_mount(Export { shared: Arc::clone(&shared) }, directory, &config)?;
        Ok(Self { shared, session: Some(session), directory: directory.to_owned() })
    }

    /// The path of the exported file.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.join(VOLUME_NAME)
    }

    pub(crate) fn writes_pending(&self) -> usize {
        self.shared.lock().volume.writes_pending()
    }

    /// Flushes that reached the file so far.
    pub(crate) fn flushes(&self) -> u64 {
        self.shared.lock().flushes
    }

    pub(crate) fn allow_garbage(&self, allowed: bool) {
        self.shared.lock().volume.allow_garbage(allowed);
    }

    /// Cuts the power, unless it is off already: no request of before has any effect from here on.
    pub(crate) fn power_off(&self) -> CutReport {
        self.shared.lock().power_off()
    }

    /// Lets the power go while the disk is at its `requests`-th write or flush from now, and waits for that.
    /// The write is pending then, the flush not begun, and neither is answered. Nothing if `patience` ends
    /// before; the power stays on.
    pub(crate) fn power_off_at(&self, requests: u64, patience: Duration) -> Option<CutReport> {
        let mut state = self.shared.lock();
        state.power = Power::On { requests_left: Some(requests) };
        let (mut state, _) = self
            .shared
            .power_lost
            .wait_timeout_while(state, patience, |state| matches!(state.power, Power::On { .. }))
            .expect("no request handler panics while it holds the volume");
        match state.power {
            Power::Off(report) => Some(report),
            Power::On { .. } => {
                state.power = Power::On { requests_left: None };
                None
            }
        }
    }

    pub(crate) fn power_on(&self) {
        let mut state = self.shared.lock();
        state.power = Power::On { requests_left: None };
        state.power_ons += 1;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // The kernel lets go of a loop device's file a moment after the device is seen to be free; until then only a lazy
        // unmount works.
        if session.umount_and_join().is_err()
            && let Err(error) = run(command("umount", &["--lazy"]).arg(&self.directory))
        {
            eprintln!("power cut: {} stays mounted: {error}", self.directory.display());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no request handler panics while it holds the volume")
    }
}

impl State {
    fn power_off(&mut self) -> CutReport {
        if let Power::Off(report) = self.power {
            return report;
        }
        let report = self.volume.cut();
        self.power = Power::Off(report);
        report
    }

    /// Fails if the power is off or was off since `handle` was opened.
    fn expect_power(&self, handle: FileHandle) -> Result<(), Errno> {
        let on = matches!(self.power, Power::On { .. }) && self.power_ons == u64::from(handle);
        if on { Ok(()) } else { Err(Errno::EIO) }
    }

    /// Counts a write or flush; fails if the power goes at this one.
    fn count_request(&mut self) -> Result<(), Errno> {
        let Power::On { requests_left: Some(left) } = &mut self.power else { return Ok(()) };
        *left = left.saturating_sub(1);
        if *left > 0 {
            return Ok(());
        }
        self.power_off();
        Err(Errno::EIO)
    }
}

/// The kernel's side of the server.
struct Export {
    shared: Arc<Shared>,
}

impl Export {
    fn read_at(&self, handle: FileHandle, offset: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let state = self.shared.lock();
        state.expect_power(handle)?;
        Ok(state.volume.read(offset, length))
    }

    fn write_at(&self, handle: FileHandle, offset: u64, data: &[u8]) -> Result<u32, Errno> {
        let length = u32::try_from(data.len()).map_err(|_| Errno::EINVAL)?;
        let mut state = self.shared.lock();
        state.expect_power(handle)?;
        state.volume.write(offset, data).map_err(|error| match error {
            volume::Error::Unaligned => Errno::EINVAL,
            volume::Error::BeyondEnd => Errno::ENOSPC,
        })?;
        self.count(&mut state)?;
        Ok(length)
    }

    fn make_durable(&self, handle: FileHandle) -> Result<(), Errno> {
        let mut state = self.shared.lock();
        state.expect_power(handle)?;
        self.count(&mut state)?;
        state.volume.flush();
        state.flushes += 1;
        Ok(())
    }

    fn count(&self, state: &mut State) -> Result<(), Errno> {
        state.count_request().inspect_err(|_| self.shared.power_lost.notify_all())
    }

    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, perm, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0o700, 0),
            VOLUME_INODE => (FileType::RegularFile, 0o600, self.shared.lock().volume.bytes()),
            _ => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / SECTOR_BYTES as u64,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Filesystem for Export {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.attributes(VOLUME_INODE) {
            Some(attributes) if parent == INodeNo::ROOT && name == VOLUME_NAME => {
                reply.entry(&ATTRIBUTES_VALID, &attributes, Generation(0));
            }
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&ATTRIBUTES_VALID, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let state = self.shared.lock();
        match (inode, state.power) {
            (VOLUME_INODE, Power::On { .. }) => {
                reply.opened(FileHandle(state.power_ons), FopenFlags::FOPEN_DIRECT_IO);
            }
            (VOLUME_INODE, Power::Off(_)) => reply.error(Errno::EIO),
            _ => reply.error(Errno::EISDIR),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.read_at(handle, offset, size as usize) {
            Ok(data) => reply.data(&data),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.write_at(handle, offset, data) {
            Ok(written) => reply.written(written),
            Err(error) => reply.error(error),
        }
    }

    /// The end of a file descriptor, which flushes nothing on a disk either.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        match self.make_durable(handle) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    /// Refused, so that the loop device offers no discard and clears blocks by writing zeros.
    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(Errno::EOPNOTSUPP);
    }
}
