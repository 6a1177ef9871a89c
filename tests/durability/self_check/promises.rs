//! What the instrument promises besides the cut: flushes arrive, and nothing is left on the machine.

use std::fs::{self, File, OpenOptions};
use std::io::{IoSlice, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ReadWriteFlags;

use super::writer::{AlignedBuffer, direct};
use crate::powercut::{FileSystem, PowerCut, left_out};

const BYTES: u64 = 32 << 20;

/// A directory of the test's own, so that tests that run beside it are not mistaken for leftovers.
fn directory(test: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    fs::create_dir_all(&directory).expect("the target directory is writable");
    directory
}

fn start(directory: &Path) -> PowerCut {
    PowerCut::new(directory, BYTES, FileSystem::Ext4, 1).expect("the instrument starts")
}

/// Mounts (FUSE ones included), loop devices and directories that name `directory`.
fn left_behind(directory: &Path) -> Vec<String> {
    let name = directory.to_str().expect("the target directory is UTF-8");
    let mounts = fs::read_to_string("/proc/self/mounts").expect("proc is mounted");
    let mut left: Vec<String> =
        mounts.lines().filter(|line| line.contains(name)).map(str::to_owned).collect();
    for device in fs::read_dir("/sys/block").expect("sysfs is mounted") {
        let backing_file = device.expect("sysfs can be read").path().join("loop/backing_file");
        left.extend(fs::read_to_string(backing_file).ok().filter(|file| file.contains(name)));
    }
    let entries = fs::read_dir(directory).expect("the test made it");
    left.extend(entries.map(|entry| format!("{:?}", entry.expect("a directory of ours can be read").path())));
    left
}

#[test]
fn both_ways_to_flush_a_direct_write_reach_the_volume() {
    if left_out("powercut") {
        return;
    }
    let directory = directory("flushes");
    let powercut = start(&directory);
    let path = powercut.mount_point().join("file");
    let file =
        OpenOptions::new().write(true).create_new(true).custom_flags(direct()).open(path).expect("it is new");
    let block = AlignedBuffer::new(4096);
    file.write_all_at(block.bytes(), 0).expect("the power is on");
    file.sync_all().expect("the power is on");
    let mut pending_max = 0;
    for _ in 0..10 {
        file.write_all_at(block.bytes(), 0).expect("the power is on");
        pending_max = powercut.writes_pending().max(pending_max);
        let flushes = powercut.flushes();
        file.sync_data().expect("the power is on");
        assert!(powercut.flushes() > flushes, "fdatasync flushes the disk");

        let flushes = powercut.flushes();
        let written = rustix::io::pwritev2(&file, &[IoSlice::new(block.bytes())], 0, ReadWriteFlags::DSYNC);
        assert_eq!(written, Ok(4096));
        assert!(powercut.flushes() > flushes, "RWF_DSYNC flushes the disk");
    }
    // Not asked of each write: the journal of the file system may commit, and flush, at any moment.
    assert!(pending_max > 0, "a direct write is on the disk but not durable");
}

#[test]
fn after_the_cut_nothing_is_acknowledged_and_the_flushed_file_is_there() {
    if left_out("powercut") {
        return;
    }
    let directory = directory("frozen");
    let mut powercut = start(&directory);
    let path = powercut.mount_point().join("file");
    let mut file = File::create_new(&path).expect("it is new");
    file.write_all(b"before").and_then(|()| file.sync_all()).expect("the power is on");
    File::open(powercut.mount_point()).and_then(|directory| directory.sync_all()).expect("the power is on");
    powercut.cut();
    assert!(file.write_all(b"after").and_then(|()| file.sync_all()).is_err());
    assert!(!path.exists(), "the mount point is empty while the power is off");
    drop(file);
    powercut.remount().expect("what survived can be mounted");
    assert_eq!(fs::read(&path).expect("it was flushed"), b"before");
    assert!(
        powercut.cut_at(1_000_000, Duration::from_millis(1)).is_err(),
        "nobody writes, so the power stays on"
    );
    assert_eq!(fs::read(&path).expect("the power is on"), b"before");
}

#[test]
fn nothing_is_left_behind_with_the_power_on_off_or_after_a_panic() {
    if left_out("powercut") {
        return;
    }
    let directory = directory("cleanup");
    let powercut = start(&directory);
    assert_eq!(
        left_behind(&directory).len(),
        4,
        "two mounts, a loop device and a directory are seen while it runs"
    );
    drop(powercut);
    assert_eq!(left_behind(&directory), Vec::<String>::new());

    let mut powercut = start(&directory);
    powercut.cut();
    drop(powercut);
    assert_eq!(left_behind(&directory), Vec::<String>::new());

    let caught = panic::catch_unwind(AssertUnwindSafe(|| {
        let powercut = start(&directory);
        fs::write(powercut.mount_point().join("file"), [1; 100_000]).expect("the power is on");
        panic!("as a failing test does");
    }));
    assert!(caught.is_err());
    assert_eq!(left_behind(&directory), Vec::<String>::new());
}

/// Set in the environment of the process that is to be killed.
const KILLED_DIRECTORY: &str = "CORELANE_POWERCUT_KILLED_DIRECTORY";

/// A process that dies with a direct write under way cannot even end: its write waits for a server that is
/// gone, and it holds the connection open that would tell so. The next start has to break that up.
#[test]
fn what_a_killed_process_left_is_removed_by_the_next() {
    if left_out("powercut") {
        return;
    }
    if let Some(directory) = std::env::var_os(KILLED_DIRECTORY) {
        write_until_killed(Path::new(&directory));
    }
    let directory = directory("killed");
    let program = std::env::current_exe().expect("a running program has a path");
    let test = "self_check::promises::what_a_killed_process_left_is_removed_by_the_next";
    let mut child = Command::new(program)
        .args(["--exact", test])
        .env(KILLED_DIRECTORY, &directory)
        .spawn()
        .expect("it starts");
    wait_for_first_file(&directory, &mut child);
    child.kill().expect("it was not waited for");
    assert!(!left_behind(&directory).is_empty(), "a killed process cleans up nothing");

    // The process may be dead only in part; the instrument sees that its main thread is.
    wait_until("the killed process is gone", || process_state(child.id()).is_none_or(|state| state == 'Z'));
    drop(start(&directory));
    child.wait().expect("it ends once its connection is aborted");
    wait_until("nothing is left behind", || left_behind(&directory).is_empty());
}

fn write_until_killed(directory: &Path) -> ! {
    let powercut = start(directory);
    let path = powercut.mount_point().join("file");
    let file =
        OpenOptions::new().write(true).create_new(true).custom_flags(direct()).open(path).expect("it is new");
    let block = AlignedBuffer::new(4096);
    loop {
        file.write_all_at(block.bytes(), 0).expect("the power is on");
    }
}

fn wait_for_first_file(directory: &Path, child: &mut Child) {
    let file = directory.join(format!("powercut-{}-0/mount/file", child.id()));
    wait_until("the process writes", || {
        assert_eq!(child.try_wait().expect("it is ours"), None, "the process ended by itself");
        fs::metadata(&file).is_ok_and(|attributes| attributes.len() > 0)
    });
}

/// The state letter of a process's main thread.
fn process_state(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::yield_now();
    }
}
