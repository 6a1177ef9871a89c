//! The loop device and the file system on it, through the commands of util-linux, e2fsprogs and xfsprogs.
//!
//! Each guard takes its thing away when it is dropped, also while a panic unwinds, and neither waits for a
//! device that answers no more: unmounting is lazy, and so is detaching (a loop device goes when its last
//! user does).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at that the kernel tells nobody about.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Ext4,
    Xfs,
}

impl FileSystem {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }

    /// The smallest volume that its mkfs accepts without complaint.
    pub(crate) fn bytes_min(self) -> u64 {
        match self {
            Self::Ext4 => 32 << 20,
            Self::Xfs => 320 << 20,
        }
    }

    /// Everything is initialised now: a kernel thread that goes on initialising would add writes of its own
    /// to a cut.
    fn mkfs(self) -> Command {
        match self {
            Self::Ext4 => {
                command("mkfs.ext4", &["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"])
            }
            Self::Xfs => command("mkfs.xfs", &["-q", "-f", "-K"]),
        }
    }
}

/// Whether the environment leaves out a part of the tests by name: `CORELANE_WITHOUT=powercut,xfs`. Says so
/// if it does.
pub(crate) fn left_out(name: &str) -> bool {
    let without = std::env::var("CORELANE_WITHOUT").unwrap_or_default();
    let left_out = without.split([',', ' ']).any(|part| part == name);
    if left_out {
        println!("left out: {name}");
    }
    left_out
}

/// Says what is missing before anything half-built has to be explained.
pub(crate) fn check_requirements(file_system: FileSystem) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(missing("root's rights (it mounts file systems)", "powercut"));
    }
    for device in ["/dev/fuse", "/dev/loop-control"] {
        if !Path::new(device).exists() {
            return Err(missing(device, "powercut"));
        }
    }
    for program in ["losetup", "mount", "umount"] {
        if !is_installed(program) {
            return Err(missing(&format!("{program} (package util-linux)"), "powercut"));
        }
    }
    match file_system {
        FileSystem::Ext4 if !is_installed("mkfs.ext4") => {
            Err(missing("mkfs.ext4 (package e2fsprogs)", "powercut"))
        }
        FileSystem::Xfs if !is_installed("mkfs.xfs") => Err(missing("mkfs.xfs (package xfsprogs)", "xfs")),
        _ => Ok(()),
    }
}

fn missing(what: &str, leave_out: &str) -> io::Error {
    io::Error::other(format!(
        "the power-cut tests need {what}; set CORELANE_WITHOUT={leave_out} to leave them out knowingly"
    ))
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// A loop device; dropping it detaches it.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    device: PathBuf,
    /// `loop` below the device in sysfs; there while a file is attached.
    attributes: PathBuf,
    backing_file: String,
}

impl LoopDevice {
    /// Attaches `file` with direct I/O, and refuses a device that would not hand flushes down.
    pub(crate) fn attach(file: &Path) -> io::Result<Self> {
        let shown = run(command("losetup", &["--find", "--show", "--direct-io=on"]).arg(file))?;
        let device = PathBuf::from(shown.trim());
        let name =
            device.file_name().ok_or_else(|| io::Error::other(format!("losetup answered {shown:?}")))?;
        let queue = Path::new("/sys/block").join(name).join("queue");
        let attributes = Path::new("/sys/block").join(name).join("loop");
        let mut attached = Self { device, attributes, backing_file: String::new() };
        attached.backing_file = fs::read_to_string(attached.attributes.join("backing_file"))?;
        attached.expect_attribute(&attached.attributes.join("dio"), "1")?;
        attached.expect_attribute(&queue.join("write_cache"), "write back")?;
        Ok(attached)
    }

    fn expect_attribute(&self, attribute: &Path, expected: &str) -> io::Result<()> {
        let value = fs::read_to_string(attribute)?;
        if value.trim() == expected {
            return Ok(());
        }
        let device = self.device.display();
        Err(io::Error::other(format!("{device}: {} is {value:?}, not {expected:?}", attribute.display())))
    }

    pub(crate) fn make(&self, file_system: FileSystem) -> io::Result<()> {
        run(file_system.mkfs().arg(&self.device)).map(drop)
    }

    /// Detaches the device, at the latest when its last user is gone, and waits for that.
    pub(crate) fn detach(&self, patience: Duration) -> io::Result<()> {
        if !self.is_attached() {
            return Ok(());
        }
        run(command("losetup", &["--detach"]).arg(&self.device))?;
        let deadline = Instant::now() + patience;
        while self.is_attached() {
            if Instant::now() > deadline {
                let device = self.device.display();
                return Err(io::Error::other(format!(
                    "{device} is still in use after {patience:?}: something still holds a file open on its mount"
                )));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(())
    }

    /// False as soon as the device is free or has become somebody else's.
    fn is_attached(&self) -> bool {
        fs::read_to_string(self.attributes.join("backing_file")).is_ok_and(|file| file == self.backing_file)
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        if let Err(error) = self.detach(Duration::from_secs(10)) {
            eprintln!("power cut: {error}");
        }
    }
}

/// A mounted file system; dropping it unmounts it lazily.
#[derive(Debug)]
pub(crate) struct Mounted(PathBuf);

impl Mounted {
    pub(crate) fn mount(device: &LoopDevice, file_system: FileSystem, point: &Path) -> io::Result<Self> {
        run(command("mount", &["-t", file_system.name()]).arg(&device.device).arg(point))?;
        Ok(Self(point.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(command("umount", &["--lazy"]).arg(&self.0)) {
            eprintln!("power cut: {error}");
        }
    }
}

pub(super) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// Runs a command to its end; its error carries what it said.
pub(super) fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?} ended with {}: {}", output.status, said.trim())))
}
