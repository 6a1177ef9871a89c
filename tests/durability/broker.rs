//! The broker under test as a process of its own: started, killed, stopped, asked, and never left behind.
//!
//! A [`Home`] is a data directory on a real file system with what its brokers leave in memory: staging files, which are
//! found as what the process has mapped below `/dev/shm`. Both go when the home is dropped; the broker's output stays
//! when the test fails. This module knows neither clients nor disks.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_getaffinity};

/// How long a broker may take to start or stop before the test gives it up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a process that is to end.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Where staging files lie.
const MEMORY: &str = "/dev/shm/";

/// A data directory and the memory that belongs to it.
pub(crate) struct Home {
    program: PathBuf,
    /// The test's own directory, for logs and, unless the data lie elsewhere, the data.
    directory: PathBuf,
    data: PathBuf,
    staging: BTreeSet<PathBuf>,
    /// The counts of shards that starts take in turn.
    shards: &'static [usize],
    starts: usize,
}

impl Home {
    /// An empty home for the broker of this build, on the file system of the target directory.
    pub(crate) fn new(name: &str) -> Self {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if directory.exists() {
            fs::remove_dir_all(&directory).expect("the target directory is writable");
        }
        fs::create_dir_all(&directory).expect("the target directory is writable");
        let program = PathBuf::from(env!("CARGO_BIN_EXE_corelane"));
        let data = directory.join("data");
        Self { program, directory, data, staging: BTreeSet::new(), shards: &[1], starts: 0 }
    }

    /// A home whose data lie somewhere else, such as on a disk that can be cut off.
    pub(crate) fn with_data(name: &str, data: PathBuf) -> Self {
        let mut home = Self::new(name);
        home.data = data;
        home
    }

    /// The same home, whose brokers have so many shards, in turn.
    pub(crate) fn over(mut self, shards: &'static [usize]) -> Self {
        self.shards = shards;
        self
    }

    /// The same home, for another program.
    pub(crate) fn running(mut self, program: PathBuf) -> Self {
        self.program = program;
        self
    }

    /// Starts the broker and waits until it serves. Ways to flush the journal change every second time: a test that
    /// starts it in pairs sees both at either place.
    pub(crate) fn start(&mut self) -> Broker {
        let shards = self.shards[self.starts % self.shards.len()];
        self.starts += 1;
        let flush_method = if (self.starts / 2).is_multiple_of(2) { "dsync" } else { "fdatasync" };
        let log = self.directory.join(format!("broker-{}.log", self.starts));
        let broker = Broker::start(&self.program, &self.data, shards, flush_method, log);
        self.staging.extend(broker.staging_files());
        broker
    }

    /// Where its data lie.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// Starts the broker, which must end by itself with an error; gives what it said.
    pub(crate) fn refuses_to_start(&mut self) -> String {
        self.starts += 1;
        let log = self.directory.join(format!("broker-{}.log", self.starts));
        let errors = File::create(&log).expect("the target directory is writable");
        let mut command = command(&self.program, &self.data, 1, "dsync");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors).spawn();
        let mut child = child.expect("the program was built");
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().expect("it is ours") {
                Some(status) => break Some(status),
                None if Instant::now() >= deadline => break None,
                None => thread::sleep(POLL_INTERVAL),
            }
        };
        if status.is_none() {
            child.kill().and_then(|()| child.wait()).expect("it is ours");
        }
        let said = fs::read_to_string(&log).expect("it was just made");
        assert_eq!(status.and_then(|status| status.code()), Some(1), "it starts or fails otherwise: {said}");
        said
    }

    /// Takes away what the directory's brokers left in memory, as a loss of power does.
    pub(crate) fn lose_memory(&mut self) -> usize {
        let lost = std::mem::take(&mut self.staging);
        lost.iter().filter(|path| fs::remove_file(path).is_ok()).count()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.lose_memory();
        if !thread::panicking() {
            let _best_effort = fs::remove_dir_all(&self.directory);
        }
    }
}

fn command(program: &Path, data: &Path, shards: usize, flush_method: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["serve", "--cpus", &cpus(shards), "--listeners", "PLAINTEXT://127.0.0.1:0"])
        .args(["--flush-method", flush_method, "--admin-listener", "127.0.0.1:0", "--log-dirs"])
        .arg(data);
    command
}

/// A running broker; dropping it kills it.
pub(crate) struct Broker {
    child: Child,
    /// What it prints; ends with the process.
    lines: Receiver<String>,
    address: SocketAddr,
    admin: SocketAddr,
    shards: usize,
    log: PathBuf,
}

impl Broker {
    fn start(program: &Path, data: &Path, shards: usize, flush_method: &str, log: PathBuf) -> Self {
        let errors = File::create(&log).expect("the target directory is writable");
        let mut child = command(program, data, shards, flush_method)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("the program was built");
        let output = child.stdout.take().expect("it is piped");
        let (sender, lines) = channel();
        // Reading goes on to the end, so that the broker never waits for a reader of its output.
        thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut broker = Self { child, lines, address: nowhere, admin: nowhere, shards, log };
        broker.await_banner();
        assert!(broker.get("/ready").contains("true"), "it says so before it is ready");
        broker
    }

    fn await_banner(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.lines.recv_timeout(left);
            let Ok(line) = line else { panic!("the broker did not start ({line:?}): {}", self.said()) };
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("listeners"), Some(address)) => {
                    self.address = address.parse().expect("an address");
                }
                (Some("admin"), Some(url)) => {
                    let address = url.trim_start_matches("http://").trim_end_matches("/metrics");
                    self.admin = address.parse().expect("an address");
                }
                (Some("recovered"), _) => return,
                _ => {}
            }
        }
    }

    /// Where clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many shards it was told to have.
    pub(crate) fn shards(&self) -> usize {
        self.shards
    }

    /// What the broker wrote into its log, for the message of a failure.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// A metric, over all shards if each has its own.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let value = |sample: &serde_json::Value| sample["value"].as_u64().expect("a whole number");
        self.samples(name).iter().map(value).sum()
    }

    /// How many values each distribution of a metric holds.
    pub(crate) fn counts(&self, name: &str) -> Vec<u64> {
        let count = |sample: &serde_json::Value| sample["value"]["count"].as_u64();
        self.samples(name).iter().map(|sample| count(sample).expect("a distribution")).collect()
    }

    fn samples(&self, name: &str) -> Vec<serde_json::Value> {
        let metrics: serde_json::Value =
            serde_json::from_str(&self.get("/metrics?format=json")).expect("metrics are JSON");
        let families = metrics["metrics"].as_array().expect("a list");
        let family = families.iter().find(|family| family["name"] == name);
        let samples = family.and_then(|family| family["samples"].as_array().cloned());
        let samples = samples.filter(|all| !all.is_empty());
        samples.unwrap_or_else(|| panic!("there is no metric {name}"))
    }

    /// Resident memory. KiB.
    pub(crate) fn resident_kib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has it");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// The limits that the kernel holds it to.
    pub(crate) fn limits(&self) -> String {
        self.proc("limits")
    }

    fn staging_files(&self) -> Vec<PathBuf> {
        let maps = self.proc("maps");
        let paths = maps.lines().filter_map(|line| line.find(MEMORY).map(|at| &line[at..]));
        paths.filter(|path| !path.ends_with(" (deleted)")).map(PathBuf::from).collect()
    }

    fn proc(&self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).expect("the process lives")
    }

    fn get(&self, path: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(self.admin)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: broker\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = ask().unwrap_or_else(|error| panic!("{path}: {error}: {}", self.said()));
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head");
        assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}: {}", self.said());
        body.to_owned()
    }

    /// Kills it as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        // Both fail only when the process was waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(mut self) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).expect("the process lives");
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("SIGTERM does not stop it: {}", self.said()),
            }
        }
        self.child.wait().expect("it is ours")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the broker said: {}", self.said());
        }
        self.end();
    }
}

/// The CPUs of so many shards: those that this process may use, and these again where they are too few.
fn cpus(shards: usize) -> String {
    let allowed = sched_getaffinity(None).expect("the kernel says which");
    let allowed: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).collect();
    let cpus: Vec<String> = allowed.iter().cycle().take(shards).map(usize::to_string).collect();
    cpus.join(",")
}
