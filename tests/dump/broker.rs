//! A broker with a data directory of its own, and a producer that waits for each answer.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use corelane_perf::client::connection::Connection;
use corelane_perf::client::messages::create_topics::CreateTopicsRequest;
use corelane_perf::client::messages::produce::ProduceRequest;
use corelane_perf::client::records::record::{Record, encode_batch};
use rustix::process::{Pid, Signal, kill_process};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// acks=all.
const ALL: i16 = -1;

/// Batches of few bytes, and the records in each.
pub(crate) const SMALL: (usize, usize) = (30, 5);

/// Batches that go to their segment directly, one record each.
pub(crate) const LARGE: usize = 3;

/// A folder for one test's data, on the file system of the target directory.
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dump-{name}"));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("the target directory is writable");
        Self(path)
    }

    /// The data directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.0.join("data")
    }

    /// Starts a broker and waits until it serves.
    pub(crate) fn start(&self) -> Broker {
        let mut child = Command::new(env!("CARGO_BIN_EXE_corelane"))
            .args([
                "serve",
                "--cpus",
                "0",
                "--listeners",
                "PLAINTEXT://127.0.0.1:0",
                "--flush-method",
                "dsync",
            ])
            .args(["--admin-listener", "127.0.0.1:0", "--log-dirs"])
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("the program was built");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let mut address = String::new();
        for line in lines.by_ref().map_while(Result::ok) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("listeners"), Some(listener)) => address = listener.to_owned(),
                (Some("recovered"), _) => break,
                _ => {}
            }
        }
        assert!(!address.is_empty(), "the broker did not start");
        Broker { child, address, _lines: Box::new(lines) }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let _best_effort = fs::remove_dir_all(&self.0);
        }
    }
}

/// A running broker; dropping it kills it.
pub(crate) struct Broker {
    child: Child,
    address: String,
    /// Kept open, so that it can go on printing.
    _lines: Box<dyn Iterator<Item = std::io::Result<String>>>,
}

impl Broker {
    pub(crate) fn create_topics(&self) {
        let mut connection = self.connect();
        for topic in ["small", "large"] {
            let answer = connection.call(&CreateTopicsRequest::one(topic, 1), 7).expect("the broker serves");
            assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
        }
    }

    /// Produces [`SMALL`] and [`LARGE`] batches, each flushed before the next.
    pub(crate) fn produce(&self) {
        let mut connection = self.connect();
        for batch in 0..SMALL.0 {
            let record =
                |record: usize| Record::of(1_700_000_000_000, format!("record {record} of batch {batch}"));
            self.send(&mut connection, "small", &(0..SMALL.1).map(record).collect::<Vec<_>>());
        }
        for batch in 0..LARGE {
            let value = format!("large {batch} ").repeat(25_000);
            self.send(&mut connection, "large", &[Record::of(1_700_000_000_000, value)]);
        }
    }

    fn send(&self, connection: &mut Connection, topic: &str, records: &[Record]) {
        let request = ProduceRequest::one(ALL, topic, 0, encode_batch(records));
        let answer = connection.call(&request, 11).expect("the broker serves");
        assert_eq!(answer.only().map(|partition| partition.error_code), Some(0), "{answer:?}");
    }

    fn connect(&self) -> Connection {
        Connection::connect(self.address.as_str(), PATIENCE).expect("the broker serves")
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(self) {
        drop(self);
    }

    /// Asks it to stop and waits for its end.
    pub(crate) fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the process lives");
        assert!(self.child.wait().expect("it is ours").success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Both fail only when the process was waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
