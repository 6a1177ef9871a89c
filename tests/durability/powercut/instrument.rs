//! The instrument that tests hold: a mounted file system whose power can be cut and restored.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::device::{self, FileSystem, LoopDevice, Mounted};
use super::leftovers::{self, DIRECTORY_PREFIX, EXPORT, MOUNT_POINT};
use super::server::Server;
use super::volume::{CutReport, Volume};

/// How long [`PowerCut::remount`] waits for the last user of the old mount to close its files.
const LAST_USER_PATIENCE: Duration = Duration::from_secs(30);

/// A file system over a volume that forgets unflushed writes at [`cut`](Self::cut).
///
/// Dropping it takes away mount, loop device, FUSE server and directory, in this order. Programs that still
/// hold files open on the mount must have ended by then.
pub(crate) struct PowerCut {
    // Fields are dropped in this order, from the top of the stack to its bottom.
    mounted: Option<Mounted>,
    device: Option<LoopDevice>,
    server: Server,
    directory: Directory,
    file_system: FileSystem,
}

impl PowerCut {
    /// Makes a volume of `bytes` with a fresh file system and mounts it in a new directory below `directory`.
    /// `seed` decides what each cut does to the writes that it finds pending.
    pub(crate) fn new(directory: &Path, bytes: u64, file_system: FileSystem, seed: u64) -> io::Result<Self> {
        device::check_requirements(file_system)?;
        if bytes < file_system.bytes_min() {
            let (name, least) = (file_system.name(), file_system.bytes_min());
            return Err(io::Error::other(format!("{name} needs at least {least} bytes, not {bytes}")));
        }
        fs::create_dir_all(directory)?;
        // The kernel names mounts by their whole paths, and leftovers are found by these.
        let directory = fs::canonicalize(directory)?;
        leftovers::remove(&directory);
        let directory = Directory::create(&directory)?;
        let server = Server::mount(&directory.export(), Volume::new(bytes, seed))?;
        let device = LoopDevice::attach(&server.file())?;
        device.make(file_system)?;
        let mounted = Mounted::mount(&device, file_system, &directory.mount_point())?;
        Ok(Self { mounted: Some(mounted), device: Some(device), server, directory, file_system })
    }

    /// Where the file system is mounted, before a cut and again after a remount.
    pub(crate) fn mount_point(&self) -> PathBuf {
        self.directory.mount_point()
    }

    /// Lets sectors of torn writes come out as garbage. Only for ext4: XFS reads its log by the first words
    /// of every sector, and rightly expects them to be old or new.
    pub(crate) fn allow_garbage(&self, allowed: bool) {
        assert!(!allowed || self.file_system == FileSystem::Ext4, "XFS cannot be mounted over garbage");
        self.server.allow_garbage(allowed);
    }

    /// Writes that a cut at this moment would find not flushed.
    pub(crate) fn writes_pending(&self) -> usize {
        self.server.writes_pending()
    }

    /// Flushes that reached the volume so far.
    pub(crate) fn flushes(&self) -> u64 {
        self.server.flushes()
    }

    /// Cuts the power. From here on every request of the old mount fails, and the mount point is empty;
    /// programs that work there see I/O errors, and have to close their files before
    /// [`remount`](Self::remount).
    pub(crate) fn cut(&mut self) -> CutReport {
        let report = self.server.power_off();
        self.mounted = None;
        report
    }

    /// Cuts the power while the disk is at its `requests`-th write or flush from now, which is the way to hit
    /// the moments that matter: a write that is pending, a flush that was asked for and not answered. Waits
    /// for it, and fails with the power still on if the disk was not asked that often within `patience`.
    pub(crate) fn cut_at(&mut self, requests: u64, patience: Duration) -> io::Result<CutReport> {
        assert!(self.mounted.is_some(), "the power is off already");
        let report = self.server.power_off_at(requests, patience).ok_or_else(|| {
            io::Error::other(format!(
                "the disk was asked for fewer than {requests} writes and flushes in {patience:?}"
            ))
        })?;
        self.mounted = None;
        Ok(report)
    }

    /// Restores the power and mounts what survived; the file system replays its journal as after any power
    /// loss.
    pub(crate) fn remount(&mut self) -> io::Result<()> {
        assert!(self.mounted.is_none(), "the power is still on");
        if let Some(device) = &self.device {
            device.detach(LAST_USER_PATIENCE)?;
        }
        self.device = None;
        self.server.power_on();
        let device = self.device.insert(LoopDevice::attach(&self.server.file())?);
        self.mounted = Some(Mounted::mount(device, self.file_system, &self.directory.mount_point())?);
        Ok(())
    }
}

impl Drop for PowerCut {
    fn drop(&mut self) {
        // Nothing more is kept, so nothing needs to be written back while the parts go.
        self.server.power_off();
    }
}

/// The directory of one instrument, named after the process so that what a killed one left can be told apart.
struct Directory(PathBuf);

impl Directory {
    fn create(below: &Path) -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = Self(below.join(format!("{DIRECTORY_PREFIX}{}-{number}", std::process::id())));
        fs::create_dir_all(directory.export())?;
        fs::create_dir_all(directory.mount_point())?;
        Ok(directory)
    }

    /// Where the server shows the volume.
    fn export(&self) -> PathBuf {
        self.0.join(EXPORT)
    }

    fn mount_point(&self) -> PathBuf {
        self.0.join(MOUNT_POINT)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // Only empty directories are removed: a mount that is still there must not be emptied.
        for directory in [self.mount_point(), self.export(), self.0.clone()] {
            if let Err(error) = fs::remove_dir(&directory) {
                eprintln!("power cut: {} is left behind: {error}", directory.display());
            }
        }
    }
}
