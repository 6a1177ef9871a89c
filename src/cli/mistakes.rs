//! What users get wrong, and the exact words that they read.
//!
//! Each row is one mistake: the configuration file, the arguments after `corelane serve`, and the message. `FILE`
//! stands for the file's path in both.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::cli::args::{Command, parse};
use crate::cli::run::Failure;
use crate::cli::serve::settings;
use crate::config::{CpuId, Settings};

/// A folder of one test, removed with everything in it when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("corelane-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What `corelane serve` makes of these arguments on a machine that allows the CPUs 0 to 3.
fn serve(arguments: &[&str]) -> Result<Settings, String> {
    let all = ["corelane", "serve"].iter().chain(arguments);
    let parsed = parse(all).map_err(|error| {
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    })?;
    let Some(Command::Serve(arguments)) = parsed.command else { panic!("`serve` is the command") };
    let allowed: BTreeSet<CpuId> = (0..4).map(CpuId).collect();
    settings(&arguments, &allowed).map_err(|error| {
        let failure = Failure::from(error);
        assert_eq!(failure.exit_code(), 2);
        failure.text()
    })
}

/// The first line of the message, with the file's path taken out of it.
fn first_line(arguments: &[&str], file: &Path) -> String {
    let path = file.display().to_string();
    let arguments: Vec<String> = arguments.iter().map(|argument| argument.replace("FILE", &path)).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let message = serve(&arguments).expect_err("it is a mistake");
    message.lines().next().unwrap_or_default().replace(&path, "FILE")
}

const IN_THE_FILE: &[(&str, &str)] = &[
    (
        "num.partitions = 1\nlog.segmant.bytes = 1\n",
        "error[E-UNKNOWN-KEY]: FILE:2: unknown key `log.segmant.bytes`; did you mean `log.segment.bytes`?",
    ),
    (
        "[corelan]\ncpus = 1\n",
        "error[E-UNKNOWN-KEY]: FILE:2: unknown key `corelan.cpus`; did you mean `corelane.cpus`?",
    ),
    (
        "cpus = 1\n",
        "error[E-UNKNOWN-KEY]: FILE:1: unknown key `cpus`; did you mean `corelane.cpus`, in the file `cpus` under [corelane]?",
    ),
    (
        "log.retention.hours = 168\n",
        "error[E-UNKNOWN-KEY]: FILE:1: `log.retention.hours` is known to Kafka, not served by Corelane yet",
    ),
    (
        "num.partitions = true\n",
        "error[E-BAD-VALUE]: FILE:1: `num.partitions` = `true`: not a whole number; allowed: a whole number from 1 to 10000",
    ),
    (
        "log.segment.bytes = \"1GiB\"\n",
        "error[E-BAD-VALUE]: FILE:1: `log.segment.bytes` = `1GiB`: not a whole number; allowed: a whole number from 1048576 to 2147483647",
    ),
    (
        "[corelane]\nstaging.bytes = \"64MB\"\n",
        "error[E-BAD-VALUE]: FILE:2: `corelane.staging.bytes` = `64MB`: `MB` is not a unit: they are KiB, MiB, GiB and TiB; allowed: a multiple of 4KiB from 2MiB to 64GiB, such as 64MiB",
    ),
    (
        "log.dirs = [\"a\", \"b\"]\n",
        "error[E-BAD-VALUE]: FILE:1: `log.dirs` = `a,b`: more than one directory, which is not served yet; allowed: the path of exactly one directory",
    ),
    (
        "listeners = \"SASL_SSL://127.0.0.1:9092\"\n",
        "error[E-LISTENER-NOT-SERVED]: `listeners` = `SASL_SSL://127.0.0.1:9092` (FILE:1): the protocol SASL_SSL is not served yet; PLAINTEXT is",
    ),
    (
        "listeners = \"PLAINTEXT://0.0.0.0:9092\"\n",
        "error[E-BAD-VALUE]: `listeners` = `PLAINTEXT://0.0.0.0:9092` (FILE:1) with `advertised.listeners` = not given (default): clients cannot connect to PLAINTEXT://0.0.0.0:9092; say in `advertised.listeners` where they can",
    ),
    (
        "listeners = [\"PLAINTEXT://:9092\", \"SSL://:9092\"]\n",
        "error[E-BAD-VALUE]: FILE:1: `listeners` = `PLAINTEXT://:9092,SSL://:9092`: PLAINTEXT://:9092 and SSL://:9092 are one address; allowed: NAME://host:port, several with commas",
    ),
    (
        "[corelane]\njournal.bytes = \"64MiB\"\n",
        "error[E-BAD-VALUE]: `corelane.staging.bytes` = `67108864` (default) with `corelane.journal.bytes` = `67108864` (FILE:2): `corelane.staging.bytes` must be at least 128MiB",
    ),
    (
        "[corelane]\nmemory.bytes = \"64MiB\"\n",
        "error[E-BAD-VALUE]: `corelane.memory.bytes` = `67108864` (FILE:2) with `socket.request.max.bytes` = `104857600` (default): `corelane.memory.bytes` must be at least 100MiB",
    ),
    ("node.id = 1\nnode.id = 2\n", "error[E-CONFIG-UNREADABLE]: FILE: line 2 is not TOML: duplicate key"),
    (
        "log.dirs = /var/lib/corelane\n",
        "error[E-CONFIG-UNREADABLE]: FILE: line 1 is not TOML: string values must be quoted, expected literal string",
    ),
];

const ON_THE_COMMAND_LINE: &[(&[&str], &str)] = &[
    (&["--listner", "PLAINTEXT://:1"], "error: unexpected argument '--listner' found"),
    (
        &["--set", "num.partitions"],
        "error: invalid value 'num.partitions' for '--set <KEY=VALUE>': expected KEY=VALUE, such as num.partitions=3",
    ),
    (
        &["--set", "num.partition=3"],
        "error[E-UNKNOWN-KEY]: --set: unknown key `num.partition`; did you mean `num.partitions`?",
    ),
    (
        &["--num-partitions", "0"],
        "error[E-BAD-VALUE]: --num-partitions: `num.partitions` = `0`: too small; allowed: a whole number from 1 to 10000",
    ),
    (
        &["--num-partitions", "2", "--set", "num.partitions=3"],
        "error[E-BAD-VALUE]: `num.partitions` is given twice: --num-partitions and --set",
    ),
    (
        &["--spin", "50"],
        "error[E-BAD-VALUE]: --spin: `corelane.spin` = `50`: `50` has no unit `us`; allowed: park, a time such as 50us, or always",
    ),
    (
        &["--flush-method", "fsync"],
        "error[E-BAD-VALUE]: --flush-method: `corelane.flush.method` = `fsync`: not one of the words; allowed: auto or dsync or fdatasync",
    ),
    (
        &["--cpus", "2-5"],
        "error[E-CPU-NOT-ALLOWED]: `corelane.cpus` = `2-5` (--cpus): this process may not run on CPU 4-5; it may run on 0-3",
    ),
    (
        &["--cpus", "0-1,1", "--spin", "always"],
        "error[E-BAD-VALUE]: `corelane.spin` = `always` (--spin) with `corelane.cpus` = `0-1,1` (--cpus): shards that share a CPU must sleep; CPU 1 has several",
    ),
    (
        &["--admin-listener", "127.0.0.1:9092"],
        "error[E-BAD-VALUE]: `corelane.admin.listener` = `127.0.0.1:9092` (--admin-listener) with `listeners` = `PLAINTEXT://127.0.0.1:9092` (default): two listeners need two ports",
    ),
    (
        &["--connections-max-idle-ms", "0"],
        "error[E-BAD-VALUE]: `connections.max.idle.ms` = `0` (--connections-max-idle-ms): every connection would be closed at once; -1 keeps them for ever",
    ),
    (
        &["--queued-max-request-bytes", "1000"],
        "error[E-BAD-VALUE]: `queued.max.request.bytes` = `1000` (--queued-max-request-bytes) with `socket.request.max.bytes` = `104857600` (default): one request of the largest size must fit",
    ),
];

#[test]
fn mistakes_in_the_file_are_told_with_their_place() {
    let folder = Folder::new("mistakes-file");
    for (content, message) in IN_THE_FILE {
        let file = folder.file("c.toml", content.as_bytes());
        assert_eq!(first_line(&["--config", "FILE"], &file), *message, "{content}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_told_with_their_flag() {
    for (arguments, message) in ON_THE_COMMAND_LINE {
        assert_eq!(first_line(arguments, Path::new("/no/file")), *message, "{arguments:?}");
    }
}

#[test]
fn files_that_are_no_configuration_are_told_apart() {
    let folder = Folder::new("mistakes-unreadable");
    let told = |path: &Path| first_line(&["--config", "FILE"], path);
    let prefix = "error[E-CONFIG-UNREADABLE]: FILE: ";
    assert_eq!(told(&folder.0.join("none")), format!("{prefix}there is no such file"));
    assert_eq!(told(&folder.0), format!("{prefix}this is a folder; a file is needed"));
    assert_eq!(told(&folder.file("latin", b"# a\n# \xe9\n")), format!("{prefix}line 2 is not UTF-8 text"));
    let long = folder.file("long", &vec![b'#'; (1 << 20) + 1]);
    assert_eq!(told(&long), format!("{prefix}longer than 1MiB, so hardly a configuration"));
}

#[test]
fn an_unknown_flag_names_the_near_one() {
    let message = serve(&["--listner", "PLAINTEXT://:1"]).unwrap_err();
    assert!(message.contains("a similar argument exists: '--listeners'"), "{message}");
}

#[test]
fn a_flag_without_its_command_is_told_where_it_stands() {
    let told = |arguments: &[&str]| {
        let error = parse(["corelane"].iter().chain(arguments)).expect_err("it is a mistake");
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    };
    let message = told(&["--listeners", "PLAINTEXT://:1"]);
    assert!(message.starts_with("error: unexpected argument '--listeners' found"), "{message}");
    for arguments in [&["--listeners=PLAINTEXT://:1"][..], &["--listeners", "PLAINTEXT://:1", "serve"]] {
        let message = told(arguments);
        assert!(
            message.contains("tip: it stands behind a command: 'corelane serve --listeners'"),
            "{message}"
        );
    }
    assert!(!told(&["--colour"]).contains("stands behind"), "serve has no such flag either");
}

#[test]
fn a_mistake_ends_with_what_was_kept_and_what_to_do() {
    let message = serve(&["--set", "num.partition=3"]).unwrap_err();
    assert_eq!(
        message.lines().skip(1).collect::<Vec<_>>(),
        [
            "  kept: nothing was started and nothing was written",
            "  do:   correct or remove the key; `corelane config reference` lists every key",
            "  see docs/errors/unknown-key.md",
        ]
    );
}

#[test]
fn flags_override_the_file() {
    let folder = Folder::new("override");
    let file = folder.file("c.toml", b"num.partitions = 3\nnode.id = 7\n[corelane]\ncpus = [1, 2]\n");
    let path = file.display().to_string();
    let arguments = ["--config", &path, "--num-partitions", "5", "--set", "corelane.spin=park"];
    let settings = serve(&arguments).unwrap();
    assert_eq!((settings.num_partitions, settings.node_id), (5, 7));
    assert_eq!(settings.cpus, [CpuId(1), CpuId(2)]);
    assert_eq!(settings.spin, crate::config::Spin::Park);
    let unlimited = serve(&["--queued-max-request-bytes", "-1"]).unwrap();
    assert_eq!(unlimited.queued_max_request_bytes, None);
}
