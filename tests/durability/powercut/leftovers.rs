//! Removes what a killed process left: mounts, loop devices and FUSE connections outlive SIGKILL.
//!
//! A process that is killed while one of its threads waits for the disk does not end: the thread waits for an
//! answer of the FUSE server, the server died with the process, and the waiting thread keeps the connection
//! open. Only aborting the connection frees it, so that comes first.

use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::device::{command, run};

/// Begins the name of an instrument's directory; the process's number and a counter follow.
pub(super) const DIRECTORY_PREFIX: &str = "powercut-";

/// The name, in such a directory, of the point where the server is mounted.
pub(super) const EXPORT: &str = "export";

/// The name, in such a directory, of the point where the file system is mounted.
pub(super) const MOUNT_POINT: &str = "mount";

const FUSE_CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// Removes the directories below `below` whose process is dead, with all that hangs on them. What cannot be
/// removed is reported and left.
pub(super) fn remove(below: &Path) {
    // Threads that start instruments at the same time must not detach each other's new loop devices.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for entry in fs::read_dir(below).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(process_of).is_some_and(is_dead) {
            remove_directory(&entry.path());
        }
    }
}

/// The process that a directory's name belongs to.
fn process_of(name: &str) -> Option<u32> {
    name.strip_prefix(DIRECTORY_PREFIX)?.split_once('-')?.0.parse().ok()
}

/// Whether the main thread of a process has ended, even if others are still stuck.
fn is_dead(process: u32) -> bool {
    match fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

fn remove_directory(directory: &Path) {
    eprintln!("power cut: removing what a killed process left in {}", directory.display());
    let (export, mount_point) = (directory.join(EXPORT), directory.join(MOUNT_POINT));
    abort_connection(&export);
    unmount(&mount_point);
    detach_loop_devices(&export);
    unmount(&export);
    for directory in [&mount_point, &export, directory] {
        if let Err(error) = fs::remove_dir(directory) {
            eprintln!("power cut: {} stays: {error}", directory.display());
        }
    }
}

/// The device number of what is mounted at `point`, as `major:minor`.
fn mounted_device(point: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|fields| fields.get(4).is_some_and(|&at| Path::new(at) == point))?;
    mount.get(2).map(|&device| device.to_owned())
}

/// Makes every request of a FUSE mount fail. The kernel names the connection by the minor number of the
/// mount.
fn abort_connection(export: &Path) {
    let Some(device) = mounted_device(export) else { return };
    let minor = device.split_once(':').map_or("", |(_, minor)| minor);
    let control = Path::new(FUSE_CONNECTIONS);
    let mounted_here = mounted_device(control).is_none();
    if mounted_here {
        report(run(command("mount", &["-t", "fusectl", "none"]).arg(control)));
    }
    // A connection whose server is closed may be gone already.
    let connection = control.join(minor);
    if connection.exists() {
        report(fs::write(connection.join("abort"), "1"));
    }
    if mounted_here {
        unmount(control);
    }
}

fn unmount(point: &Path) {
    if mounted_device(point).is_some() {
        report(run(command("umount", &["--lazy"]).arg(point)));
    }
}

fn detach_loop_devices(export: &Path) {
    for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let backing_file = fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if Path::new(&backing_file).starts_with(export) {
            report(run(command("losetup", &["--detach"]).arg(Path::new("/dev").join(entry.file_name()))));
        }
    }
}

fn report<T>(result: std::io::Result<T>) {
    if let Err(error) = result {
        eprintln!("power cut: {error}");
    }
}
