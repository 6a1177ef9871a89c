//! The errors that a user meets, and how each is told.
//!
//! Every such error belongs to a [`Page`]: a stable code to search for, and a document under `docs/errors` that
//! says what happened, what was kept and what to do. The message itself belongs to the error; what follows it is
//! the same for all errors of a page and is written here, so that a short answer stands in the terminal and the
//! long one in the document. This module knows no error type: any error joins by implementing [`Explained`].

/// A kind of error that a user meets, with a page of its own in `docs/errors`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// A setting that nobody knows, or that Kafka knows and Corelane does not serve yet.
    UnknownKey,
    /// A setting whose value has the wrong type, lies outside what is allowed, or contradicts another setting.
    BadValue,
    /// The configuration file is missing, is not a file, or is not TOML.
    ConfigUnreadable,
    /// A listener whose security protocol is not served yet.
    ListenerNotServed,
    /// `corelane.cpus` names a CPU that this process may not run on.
    CpuNotAllowed,
    /// Another process listens on an address of `listeners` or `corelane.admin.listener`. Met by the broker at start.
    PortTaken,
    /// An address of `listeners` or `corelane.admin.listener` is not this machine's, or this user may not listen on it.
    AddressUnusable,
    /// The kernel or a container's filter refuses io_uring. Met by the engine when a shard creates its ring.
    IoUringDisabled,
    /// The limit on locked memory cannot hold a shard's ring and buffers. Met by the engine when a shard starts.
    MemlockTooLow,
    /// Another process holds the data directory's lock. Met by the engine when it opens the directory.
    DirectoryLocked,
    /// The data directory cannot be created or written. Met by the engine when it opens the directory.
    DirectoryUnwritable,
    /// The data directory lies on a file system in memory. Met by the engine when it opens the directory.
    DirectoryOnTmpfs,
    /// A newer Corelane wrote the data directory. Met by the engine when it reads the directory's format file.
    DirectoryFormatNewer,
    /// The directory is not empty, and not Corelane's. Met by the engine when it finds files but no format file.
    NotADataDirectory,
    /// The data directory's root, a manifest, a journal or the metadata are not what was written. Met at start.
    DirectoryDamaged,
    /// A shard failed, or the system refused something that has no page of its own.
    BrokerFailed,
    /// Bytes of a segment are not what was written, or cannot be read. Met by a fetch; the broker goes on.
    SegmentDamaged,
    /// A write or flush of a log's files failed. The log takes no more appends; the broker goes on.
    LogReadOnly,
    /// A write or flush of a shard's journal or manifest failed. The shard takes no more appends; reads go on.
    ShardReadOnly,
    /// The tmpfs has no room for the staging files. Met by the engine when it creates them; the broker goes on.
    StagingTooSmall,
    /// `corelane dump` found bytes that are not what was written, or files that cannot be read.
    DumpFoundDamage,
    /// `corelane dump` was given something that is no file of a data directory.
    DumpUnknownFile,
}

/// Whether the program was asked for something it cannot do, could not do what it was asked for, or did it with a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Wrong usage or settings: nothing was started, and the same command fails again. Exit code 2.
    Usage,
    /// The machine stood in the way. Exit code 1.
    Runtime,
    /// The program goes on, with less than it was asked for.
    Warning,
}

impl Class {
    /// The exit code of a process that such an error ends.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Runtime | Self::Warning => 1,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Usage | Self::Runtime => "error",
            Self::Warning => "warning",
        }
    }
}

/// What all errors of a page have in common.
struct Facts {
    slug: &'static str,
    class: Class,
    kept: &'static str,
    remedy: &'static str,
}

const fn usage(slug: &'static str, remedy: &'static str) -> Facts {
    Facts { slug, class: Class::Usage, kept: "nothing was started and nothing was written", remedy }
}

const fn runtime(slug: &'static str, kept: &'static str, remedy: &'static str) -> Facts {
    Facts { slug, class: Class::Runtime, kept, remedy }
}

const fn warning(slug: &'static str, kept: &'static str, remedy: &'static str) -> Facts {
    Facts { slug, class: Class::Warning, kept, remedy }
}

impl Page {
    /// Every page: first what is wrong with the settings, then what the machine refuses.
    pub const ALL: [Self; 22] = [
        Self::UnknownKey,
        Self::BadValue,
        Self::ConfigUnreadable,
        Self::ListenerNotServed,
        Self::CpuNotAllowed,
        Self::PortTaken,
        Self::AddressUnusable,
        Self::IoUringDisabled,
        Self::MemlockTooLow,
        Self::DirectoryLocked,
        Self::DirectoryUnwritable,
        Self::DirectoryOnTmpfs,
        Self::DirectoryFormatNewer,
        Self::NotADataDirectory,
        Self::DirectoryDamaged,
        Self::BrokerFailed,
        Self::SegmentDamaged,
        Self::LogReadOnly,
        Self::ShardReadOnly,
        Self::StagingTooSmall,
        Self::DumpFoundDamage,
        Self::DumpUnknownFile,
    ];

    /// The page's file name without its ending: `port-taken`.
    pub fn slug(self) -> &'static str {
        self.facts().slug
    }

    /// The code that stands before the message: `E-PORT-TAKEN`.
    pub fn code(self) -> String {
        format!("E-{}", self.slug().to_uppercase())
    }

    /// Where the page lies in the repository.
    pub fn path(self) -> String {
        format!("docs/errors/{}.md", self.slug())
    }

    /// Whether the request or the machine was at fault.
    pub fn class(self) -> Class {
        self.facts().class
    }

    fn facts(self) -> Facts {
        self.facts_of_usage().or_else(|| self.facts_of_running()).unwrap_or_else(|| self.facts_of_machine())
    }

    fn facts_of_usage(self) -> Option<Facts> {
        let facts = match self {
            Self::UnknownKey => {
                usage("unknown-key", "correct or remove the key; `corelane config reference` lists every key")
            }
            Self::BadValue => {
                usage("bad-value", "correct the value; `corelane config reference` says what is allowed")
            }
            Self::ConfigUnreadable => usage(
                "config-unreadable",
                "correct the file or the path; without --config every key has its default",
            ),
            Self::ListenerNotServed => {
                usage("listener-not-served", "use a PLAINTEXT listener on a network you trust")
            }
            Self::CpuNotAllowed => {
                usage("cpu-not-allowed", "name allowed CPUs, or leave `corelane.cpus` out to use all of them")
            }
            Self::DumpUnknownFile => Facts {
                slug: "dump-unknown-file",
                class: Class::Usage,
                kept: "everything: a dump only reads",
                remedy: "say what it is with --as KIND, or name a data directory or files in it",
            },
            _ => return None,
        };
        Some(facts)
    }

    fn facts_of_running(self) -> Option<Facts> {
        let facts = match self {
            Self::SegmentDamaged => warning(
                "segment-damaged",
                "the file as it is, and every other batch; no damaged batch is served",
                "look for the disk's fault, then restore the directory or skip the batch; see the page",
            ),
            Self::LogReadOnly => warning(
                "log-read-only",
                "every acknowledged record; the log's durable records are still served",
                "mend the disk or make room, then restart the broker",
            ),
            Self::ShardReadOnly => warning(
                "shard-read-only",
                "every acknowledged record; durable records are still served",
                "mend the disk or make room, then restart the broker",
            ),
            Self::StagingTooSmall => warning(
                "staging-too-small",
                "the broker serves; an acks=1 record waits for its write to the disk instead of a copy",
                "give the tmpfs more room, or lower `corelane.staging.bytes`; then start again",
            ),
            _ => return None,
        };
        Some(facts)
    }

    fn facts_of_machine(self) -> Facts {
        match self {
            Self::PortTaken => runtime(
                "port-taken",
                "the data directory was not opened",
                "stop the other process (`ss -ltnp` names it), or choose another port",
            ),
            Self::AddressUnusable => runtime(
                "address-unusable",
                "the data directory was not opened",
                "name an address of this machine (`ip address` lists them) and a port that this user may use",
            ),
            Self::IoUringDisabled => runtime(
                "io-uring-disabled",
                "every record; the data directory was not opened",
                "allow io_uring: `sysctl kernel.io_uring_disabled=0`, or the container's seccomp profile",
            ),
            Self::MemlockTooLow => runtime(
                "memlock-too-low",
                "every record; the data directory was not opened",
                "raise the limit: `ulimit -l unlimited`, or LimitMEMLOCK=infinity in the service's unit",
            ),
            Self::DirectoryLocked => runtime(
                "directory-locked",
                "the data directory was not changed; the process that holds it goes on",
                "stop the other process, or give this one a `log.dirs` of its own",
            ),
            Self::DirectoryUnwritable => runtime(
                "directory-unwritable",
                "the data directory was not changed",
                "name in `log.dirs` a directory, not a file, that this user may create or write",
            ),
            Self::DirectoryOnTmpfs => runtime(
                "directory-on-tmpfs",
                "nothing was written",
                "choose a `log.dirs` on a disk: memory cannot keep what an ack promises",
            ),
            Self::DirectoryFormatNewer => runtime(
                "directory-format-newer",
                "the data directory was not changed",
                "run the version that wrote it, or a later one",
            ),
            Self::NotADataDirectory => runtime(
                "not-a-data-directory",
                "the directory and its files were not touched",
                "choose an empty or a new directory for `log.dirs`; if this one is Corelane's, restore it from a copy",
            ),
            Self::DirectoryDamaged => runtime(
                "directory-damaged",
                "everything: no log was opened or changed",
                "copy the directory before anything else, then restore all of it from a copy of a stopped broker",
            ),
            Self::BrokerFailed => runtime(
                "broker-failed",
                "every acknowledged record, as far as its acks promise; the next start recovers",
                "read the message above, mend its cause, and start again",
            ),
            Self::DumpFoundDamage => runtime(
                "dump-found-damage",
                "everything: a dump only reads",
                "if a broker is running, dump again; otherwise copy the directory before anything else",
            ),
            _ => unreachable!("the other pages are looked up before"),
        }
    }
}

/// An error that a user meets.
pub trait Explained: std::error::Error {
    /// The page that explains it.
    fn page(&self) -> Page;
}

/// The text that ends a program: code and message, what was kept, what to do, and where to read on.
pub fn explain(error: &dyn Explained) -> String {
    let page = error.page();
    let (Facts { kept, remedy, .. }, word) = (page.facts(), page.class().word());
    let (code, path) = (page.code(), page.path());
    format!(
        "{word}[{code}]: {error}
  kept: {kept}
  do:   {remedy}
  see {path}
"
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors")
    }

    #[test]
    fn each_page_has_its_document_with_three_sections() {
        for page in Page::ALL {
            let text =
                fs::read_to_string(folder().join(format!("{}.md", page.slug()))).expect("the page exists");
            let title = format!("# {}: ", page.code());
            assert!(text.starts_with(&title), "{} starts with its code", page.path());
            let sections: Vec<&str> = text.lines().filter(|line| line.starts_with("## ")).collect();
            assert_eq!(
                sections,
                ["## What happened", "## What was kept", "## What to do"],
                "{}",
                page.path()
            );
            for section in text.split("\n## ").skip(1) {
                let body = section.split_once('\n').expect("a heading ends its line").1;
                assert!(body.trim().len() > 30, "{}: a section says something", page.path());
            }
        }
    }

    #[test]
    fn each_document_has_its_page() {
        let known: BTreeSet<String> = Page::ALL.iter().map(|page| format!("{}.md", page.slug())).collect();
        let files: BTreeSet<String> = fs::read_dir(folder())
            .expect("docs/errors is a folder")
            .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
            .collect();
        assert_eq!(files, known);
        assert_eq!(known.len(), Page::ALL.len(), "no two pages share a name");
    }

    /// The engine knows no pages; its lines name their documents.
    #[test]
    fn what_a_running_engine_tells_names_a_page() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shards/src/engine/notices.rs");
        let source = fs::read_to_string(source).expect("the engine's lines are there");
        for page in [Page::SegmentDamaged, Page::LogReadOnly, Page::ShardReadOnly] {
            assert!(source.contains(&format!("\"{}\"", page.path())), "{}", page.path());
        }
        assert_eq!(source.matches("\"docs/errors/").count(), 3, "each page that it names is known here");
    }

    #[test]
    fn an_error_is_told_with_code_kept_remedy_and_page() {
        #[derive(Debug, thiserror::Error)]
        #[error("127.0.0.1:9092 is in use")]
        struct Taken;
        impl Explained for Taken {
            fn page(&self) -> Page {
                Page::PortTaken
            }
        }
        assert_eq!(
            explain(&Taken),
            "error[E-PORT-TAKEN]: 127.0.0.1:9092 is in use\n  \
             kept: the data directory was not opened\n  \
             do:   stop the other process (`ss -ltnp` names it), or choose another port\n  \
             see docs/errors/port-taken.md\n"
        );
    }
}
