//! Starts that the system refuses: what is said, and that neither the data directory nor memory was touched.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::broker::Home;
use crate::load::{self, LOGS, Load};

/// Lets a program run without io_uring: a filter answers the call that makes a ring with EPERM.
const WITHOUT_IO_URING: &str = r#"
my $filter = pack("SCCL" x 4, 0x20, 0, 0, 0, 0x15, 0, 1, 425, 0x06, 0, 0, 0x00050001, 0x06, 0, 0, 0x7fff0000);
my $program = pack("Sx6P", 4, $filter);
syscall(157, 38, 1, 0, 0, 0) == 0 or die "no_new_privs: $!";
syscall(317, 1, 0, $program) == 0 or die "seccomp: $!";
exec @ARGV or die "exec: $!";
"#;

#[test]
fn a_start_that_the_system_refuses_changes_nothing() {
    let mut home = Home::new("refused");
    assert!(home.start().stop().success(), "there is a directory to be left alone");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let no_ring: &[&str] = &["perl", "-e", WITHOUT_IO_URING];
    let no_memory: &[&str] = &["sh", "-c", "ulimit -l 0 && exec \"$@\"", "sh"];
    for (page, around, port) in
        [("port-taken", &[][..], port), ("io-uring-disabled", no_ring, 0), ("memlock-too-low", no_memory, 0)]
    {
        let before = content(home.data());
        let output = serve(around, home.data(), port);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{page}: it started: {said}");
        assert!(said.contains(page), "{page} is not what it said: {said}");
        assert_eq!(content(home.data()), before, "{page}: the directory was changed");
        assert_eq!(staging(home.data()), Vec::<String>::new(), "{page}: something was left in memory");
        let fresh = home.data().with_file_name("never-created");
        assert!(!serve(around, &fresh, port).status.success());
        assert!(!fresh.exists(), "{page}: a new directory was created");
    }
    assert!(home.start().stop().success());
}

/// A copy of a directory that was stopped cleanly has nothing in memory to ask for, and was started beside its original,
/// whose staging files it took away at its own end: a kill of the original then cost what acks=1 had promised.
#[test]
fn a_copy_beside_its_original_is_refused() {
    let mut home = Home::new("copied");
    assert!(home.start().stop().success(), "there is a directory to be copied");
    let copy = home.data().with_file_name("copy");
    let copied = Command::new("cp").arg("-a").args([home.data(), copy.as_path()]).status();
    assert!(copied.expect("it can be run").success());
    let original = home.start();
    let in_memory = staging(&copy);
    assert!(!in_memory.is_empty(), "the original has staging memory");
    let output = serve(&["timeout", "10"], &copy, 0);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("directory-locked"), "{said}");
    assert_eq!(staging(&copy), in_memory, "what the original has in memory");
    assert!(original.stop().success());
    let output = serve(&["timeout", "-s", "INT", "5"], &copy, 0);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("directory-locked"), "alone it may run");
}

fn serve(around: &[&str], data: &Path, port: u16) -> Output {
    let program = env!("CARGO_BIN_EXE_corelane");
    let listener = format!("PLAINTEXT://127.0.0.1:{port}");
    let words = around.iter().copied().chain([program, "serve", "--cpus", "0", "--listeners", &listener]);
    let words: Vec<&str> = words.chain(["--admin-listener", "127.0.0.1:0", "--log-dirs"]).collect();
    Command::new(words[0]).args(&words[1..]).arg(data).output().expect("it can be run")
}

/// The files below a directory and what is in them, but for the journals, which are large and compared by their size.
fn content(directory: &Path) -> BTreeMap<PathBuf, (u64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut left = vec![directory.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).expect("it can be listed") {
            let path = entry.expect("as before").path();
            if path.is_dir() {
                left.push(path);
                continue;
            }
            let length = path.metadata().expect("it is there").len();
            let is_small = length < 1 << 20;
            let bytes = if is_small { fs::read(&path).expect("it can be read") } else { Vec::new() };
            found.insert(path, (length, bytes));
        }
    }
    assert!(found.len() > 3, "there is something to compare");
    found
}

/// What the directory's brokers have in memory beyond their end.
fn staging(directory: &Path) -> Vec<String> {
    let format = fs::read_to_string(directory.join("format")).expect("a data directory has it");
    let id = format.lines().find_map(|line| line.strip_prefix("directory: ")).expect("as documented");
    let names = fs::read_dir("/dev/shm").expect("every Linux has it");
    let names = names.map(|entry| entry.expect("as before").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(id)).collect()
}

/// The broker in a world of its own, whose memory for staging files has room for none.
fn without_staging() -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("without-staging.sh");
    let program = env!("CARGO_BIN_EXE_corelane");
    let mounted = "mount -t tmpfs -o size=1m tmpfs /dev/shm";
    let script =
        format!("#!/bin/sh\nexec unshare -m sh -c '{mounted} && exec \"$@\"' sh '{program}' \"$@\"\n");
    fs::write(&path, script).expect("the target directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    path
}

#[test]
fn a_broker_without_room_for_staging_serves_and_says_so() {
    let mut home = Home::new("without-staging").running(without_staging());
    let broker = home.start();
    assert!(broker.said().contains("docs/errors/staging-too-small.md"), "{}", broker.said());
    load::create_topics(broker.address());
    let mut load = Load::new(7);
    let running = load.start(broker.address(), [0; LOGS]);
    running.await_acks(50);
    load = running.finish();
    assert_eq!(load.take_refusals(), Vec::<String>::new());
    assert!(broker.stop().success());
}
