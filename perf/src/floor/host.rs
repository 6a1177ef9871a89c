//! Where a report comes from: kernel, CPU, disk. What cannot be read is left out rather than guessed.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use super::error::Error;

/// The host and the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Host {
    /// Name and release of the kernel.
    pub kernel: String,
    /// The CPU's model.
    pub cpu_model: Option<String>,
    /// Processes that ran or waited for a disk in the minute before, on average: near 0 on a host that was left alone.
    pub load_average: Option<String>,
    /// CPUs that this process may use.
    pub cpus_allowed: Vec<usize>,
    /// The directory, in full; what is not UTF-8 in it is replaced.
    pub directory: String,
    /// The type of its file system.
    pub file_system: Option<String>,
    /// The block device under it, as `major:minor`.
    pub device: Option<String>,
    /// The device's write cache as the kernel sees it: `write back` needs flushes, `write through` does not.
    pub write_cache: Option<String>,
}

/// Which CPU each end of a measured connection is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The first CPU allowed.
    pub server_cpu: usize,
    /// The last CPU allowed.
    pub client_cpu: usize,
}

impl Placement {
    /// Whether both ends share the only CPU there is, so that neither can spin.
    pub fn is_shared(self) -> bool {
        self.server_cpu == self.client_cpu
    }
}

/// Reads what can be known of this host and of `directory`.
pub(super) fn inspect(directory: &Path) -> Result<(Host, Placement), Error> {
    let directory = directory
        .canonicalize()
        .map_err(|source| Error::Directory { directory: directory.to_owned(), source })?;
    let cpus_allowed = cpus_allowed()?;
    let (Some(first), Some(last)) = (cpus_allowed.first(), cpus_allowed.last()) else {
        return Err(Error::Placement(std::io::ErrorKind::NotFound.into()));
    };
    let placement = Placement { server_cpu: *first, client_cpu: *last };
    let uname = rustix::system::uname();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mount = mount_of(&mounts, &directory);
    let host = Host {
        kernel: format!("{} {}", uname.sysname().to_string_lossy(), uname.release().to_string_lossy()),
        cpu_model: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| cpu_model(&text)),
        load_average: fs::read_to_string("/proc/loadavg").ok().and_then(|text| first_word(&text)),
        cpus_allowed,
        directory: directory.to_string_lossy().into_owned(),
        write_cache: mount.as_ref().and_then(|mount| write_cache(&mount.device)),
        file_system: mount.as_ref().map(|mount| mount.file_system.clone()),
        device: mount.map(|mount| mount.device),
    };
    Ok((host, placement))
}

/// Binds the calling thread to one CPU.
pub(super) fn pin(cpu: usize) -> Result<(), Error> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|errno| Error::Placement(errno.into()))
}

fn cpus_allowed() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None).map_err(|errno| Error::Placement(errno.into()))?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

fn first_word(text: &str) -> Option<String> {
    text.split_whitespace().next().map(str::to_owned)
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A partition has no queue of its own; that of its disk is one level up.
fn write_cache(device: &str) -> Option<String> {
    let device = Path::new("/sys/dev/block").join(device).canonicalize().ok()?;
    let queues = [device.join("queue/write_cache"), device.parent()?.join("queue/write_cache")];
    let text = queues.iter().find_map(|path| fs::read_to_string(path).ok())?;
    Some(text.trim().to_owned())
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: String,
    file_system: String,
}

/// The mount that `directory` lies in: the longest mount point that is a prefix of it, and of several mounted on the same
/// point the last.
fn mount_of(mountinfo: &str, directory: &Path) -> Option<Mount> {
    let mounts = mountinfo.lines().filter_map(parse_mount);
    let around = mounts.filter(|(point, _)| directory.starts_with(point));
    around.max_by_key(|(point, _)| point.components().count()).map(|(_, mount)| mount)
}

/// A line of mountinfo: `id parent major:minor root point options optional... - type source options`.
fn parse_mount(line: &str) -> Option<(PathBuf, Mount)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(2);
    let device = fields.next()?.to_owned();
    let point = unescape(fields.nth(1)?);
    let file_system = file_system.split(' ').next()?.to_owned();
    Some((PathBuf::from(point), Mount { device, file_system }))
}

/// Spaces, tabs, line feeds and backslashes stand in mountinfo as a backslash and three octal digits.
fn unescape(field: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(field.to_owned(), |text, (escape, character)| text.replace(escape, character))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
        30 22 0:24 / /tmp rw - tmpfs tmpfs rw\n\
        31 30 259:1 / /tmp/fast\\040disk rw master:3 propagate_from:2 - xfs /dev/nvme0n1p1 rw\n\
        32 22 0:30 / /tmpfs rw - tmpfs tmpfs rw\n\
        33 30 0:31 / /tmp rw - btrfs /dev/sda rw\n";

    #[test]
    fn the_innermost_and_last_mount_is_found() {
        let of = |directory: &str| {
            let mount = mount_of(MOUNTS, Path::new(directory)).unwrap();
            (mount.device, mount.file_system)
        };
        assert_eq!(of("/var/lib"), ("254:0".to_owned(), "ext4".to_owned()));
        assert_eq!(of("/tmp/x"), ("0:31".to_owned(), "btrfs".to_owned()));
        assert_eq!(of("/tmp/fast disk/x"), ("259:1".to_owned(), "xfs".to_owned()));
        assert_eq!(of("/tmpfs"), ("0:30".to_owned(), "tmpfs".to_owned()));
        assert_eq!(mount_of("garbage\n", Path::new("/")), None);
    }

    #[test]
    fn this_host_has_a_kernel_and_cpus() {
        let (host, placement) = inspect(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert!(host.kernel.starts_with("Linux "));
        assert!(host.cpus_allowed.contains(&placement.server_cpu));
        assert_eq!(placement.is_shared(), host.cpus_allowed.len() == 1);
        assert!(host.file_system.is_some());
    }

    #[test]
    fn the_model_is_read_from_cpuinfo() {
        let text = "processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: other\n";
        assert_eq!(cpu_model(text).as_deref(), Some("Some CPU @ 3 GHz"));
        assert_eq!(cpu_model("processor\t: 0\n"), None);
    }
}
