//! The lock of a data directory: one process at a time, and no write of a dead one.
//!
//! The lock (`flock`) belongs to an open file description, and goes away with the last reference to it. A process that is
//! killed drops its references at once, while writes that it submitted to a ring are still on their way to the disk. So
//! every ring that writes into the directory must register [`Lock::fence`] as one of its fixed files: the kernel gives a
//! ring's files back only when the ring's last operation has ended, and until then the lock stays held, whatever
//! happened to the process. Who gets the lock therefore knows that nothing lands any more.
//! `docs/adr/2026-11-25-the-directory-lock-is-held-by-every-ring.md` has the measurement.
//!
//! Blocking writes need no such care: a process does not end while one of its threads is inside one.
//!
//! The file holds the process id and start time of its holder as text, for messages alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use super::files::{FileError, naming};
use super::layout::Layout;

/// How long the disk operations of a dead process are waited for: twice the half minute after which the kernel's drivers
/// give an operation up by default.
pub const DEAD_WAIT: Duration = Duration::from_secs(60);

/// How long a holder that lives is given to end: a process that was killed looks alive for a moment.
const LIVING_WAIT: Duration = Duration::from_millis(500);

/// Between two attempts.
const POLL: Duration = Duration::from_millis(2);

/// The lock, held from [`Lock::take`] until this value and every fence are gone.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lock's file cannot be opened or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A process that lives holds it.
    #[error("another process uses the directory: {}", process(.0))]
    Held(Option<u32>),
    /// Its holder is dead, and disk operations that it left behind do not end; or it cannot be seen from here.
    #[error(
        "a process that is gone ({}) left disk operations behind that did not end within {waited:?}, \
         or it runs in another container",
        process(pid)
    )]
    StillWriting {
        /// The holder, if its id could be read.
        pid: Option<u32>,
        /// How long they were waited for.
        waited: Duration,
    },
}

fn process(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "its process id is not known".to_owned(), |pid| format!("process {pid}"))
}

/// Whether a directory is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Nobody holds the lock.
    Free,
    /// Somebody holds it: a process with this id, if the file says so, or what a dead one left under way.
    Held(Option<u32>),
}

impl Usage {
    /// Looks whether the lock is held, without keeping or creating it: who wants it meanwhile tries again.
    pub fn look(layout: &Layout) -> Result<Usage, FileError> {
        let path = layout.lock();
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Usage::Free),
            result => result.map_err(naming("opening", &path))?,
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Usage::Free),
            Err(Errno::WOULDBLOCK) => Ok(Usage::Held(Holder::read(&path).map(|holder| holder.pid))),
            Err(error) => Err(naming("locking", &path)(error.into())),
        }
    }
}

impl Lock {
    /// Takes the lock, waiting up to `dead_wait` for the operations of a dead holder to end, and not for a living one.
    pub fn take(layout: &Layout, dead_wait: Duration) -> Result<Lock, Error> {
        let path = layout.lock();
        let mut file = open(&path).map_err(naming("opening", &path))?;
        let start = Instant::now();
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(error) => return Err(naming("locking", &path)(error.into()).into()),
            }
            let holder = Holder::read(&path);
            let (waited, is_alive) = (start.elapsed(), holder.as_ref().is_some_and(Holder::is_alive));
            if is_alive && waited >= LIVING_WAIT.min(dead_wait) {
                return Err(Error::Held(holder.map(|h| h.pid)));
            }
            if waited >= dead_wait {
                return Err(Error::StillWriting { pid: holder.map(|h| h.pid), waited: dead_wait });
            }
            thread::sleep(POLL);
        }
        let holder = Holder::of_this_process();
        file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(naming("writing", &path))?;
        Ok(Lock { file })
    }

    /// The descriptor that a ring registers as a fixed file, before its first write into the directory.
    pub fn fence(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NOFOLLOW.bits()).expect("open's flags are an int");
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path)
}

/// Who wrote into the lock's file.
struct Holder {
    pid: u32,
    /// When that process began, in the kernel's ticks: its id may have another owner by now.
    start: Option<u64>,
}

impl Holder {
    fn read(path: &Path) -> Option<Holder> {
        let text = fs::read_to_string(path).ok()?;
        let mut words = text.split_ascii_whitespace();
        let pid = words.next()?.parse().ok()?;
        Some(Holder { pid, start: words.next().and_then(|word| word.parse().ok()) })
    }

    fn of_this_process() -> String {
        let pid = std::process::id();
        let start = stat(pid).map_or_else(|| "unknown".to_owned(), |(_, start)| start.to_string());
        format!("{pid} {start}\n")
    }

    fn is_alive(&self) -> bool {
        let Some((state, start)) = stat(self.pid) else { return false };
        !matches!(state, 'Z' | 'X' | 'x') && self.start.is_none_or(|expected| expected == start)
    }
}

/// A process's state and start time, from the fields behind its name, which may contain anything.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3 of proc_pid_stat(5), the start time field 22.
    Some((state, fields.nth(18)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::scratch::Scratch;

    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn a_second_process_is_refused_with_the_first_ones_id() {
        let scratch = Scratch::new();
        let layout = Layout::new(scratch.path());
        let lock = Lock::take(&layout, SHORT).unwrap();
        // A lock belongs to an open file, so that another opening in this process is refused as another process is.
        let error = Lock::take(&layout, SHORT).unwrap_err();
        assert!(matches!(error, Error::Held(Some(pid)) if pid == std::process::id()), "{error}");
        drop(lock);
        Lock::take(&layout, SHORT).expect("the lock goes with its holder");
    }

    #[test]
    fn looking_tells_the_holder_and_leaves_the_lock_alone() {
        let scratch = Scratch::new();
        let layout = Layout::new(scratch.path());
        assert_eq!(Usage::look(&layout).unwrap(), Usage::Free);
        assert!(!layout.lock().exists(), "looking creates nothing");
        let lock = Lock::take(&layout, SHORT).unwrap();
        assert_eq!(Usage::look(&layout).unwrap(), Usage::Held(Some(std::process::id())));
        drop(lock);
        assert_eq!(Usage::look(&layout).unwrap(), Usage::Free);
        Lock::take(&layout, SHORT).expect("nothing is kept of a look");
    }

    #[test]
    fn the_fence_holds_the_lock_longer_than_its_taker() {
        let scratch = Scratch::new();
        let layout = Layout::new(scratch.path());
        let lock = Lock::take(&layout, SHORT).unwrap();
        let fence = lock.fence().try_clone_to_owned().unwrap();
        drop(lock);
        assert!(Lock::take(&layout, SHORT).is_err(), "an operation may still be under way");
        drop(fence);
        Lock::take(&layout, SHORT).expect("and now none is");
    }

    #[test]
    fn operations_of_a_dead_holder_are_waited_for_up_to_the_deadline() {
        let scratch = Scratch::new();
        let layout = Layout::new(scratch.path());
        let lock = Lock::take(&layout, SHORT).unwrap();
        // The same process id with another start time: its owner is gone.
        fs::write(layout.lock(), format!("{} 1\n", std::process::id())).unwrap();
        let error = Lock::take(&layout, SHORT).unwrap_err();
        assert!(matches!(error, Error::StillWriting { pid: Some(_), .. }), "{error}");
        let (sender, receiver) = std::sync::mpsc::channel();
        let waiting = thread::spawn(move || {
            sender.send(()).unwrap();
            Lock::take(&layout, DEAD_WAIT).map(drop)
        });
        receiver.recv().unwrap();
        drop(lock);
        waiting.join().unwrap().expect("the lock is taken when the last operation ends");
    }

    #[test]
    fn this_process_is_alive_and_one_that_ended_is_not() {
        let scratch = Scratch::new();
        let path = scratch.path().join("holder");
        fs::write(&path, Holder::of_this_process()).unwrap();
        assert!(Holder::read(&path).unwrap().is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(!Holder { pid, start: None }.is_alive());
    }
}
