//! Takes the paths one by one. What is wrong with one does not keep the others from being shown.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::arguments::DumpArguments;
use super::error::Error;
use super::kind::{Kind, PROBE_BYTES};
use super::report::Report;
use super::source::Source;
use super::surroundings::Surroundings;
use super::{index, journal, manifest, metadata, overview, segment, small};
use crate::cli::run::Failure;

/// Shows what the paths hold, on standard output.
pub(crate) fn dump(arguments: &DumpArguments) -> Result<(), Failure> {
    dump_into(Box::new(BufWriter::new(io::stdout().lock())), arguments)
}

/// Shows what the paths hold. A reader that has seen enough (`| head`) is no failure.
pub(super) fn dump_into<'o>(out: Box<dyn Write + 'o>, arguments: &DumpArguments) -> Result<(), Failure> {
    let report = Report::new(out, arguments.json);
    let mut dump = Dump { arguments, report, around: None, unknown: None };
    match dump.all() {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => Ok(dump.outcome()?),
    }
}

struct Dump<'a, 'o> {
    arguments: &'a DumpArguments,
    report: Report<'o>,
    /// Of the file before: the next one mostly lies in the same directory.
    around: Option<Surroundings>,
    /// The first file that nobody knows.
    unknown: Option<PathBuf>,
}

impl Dump<'_, '_> {
    fn all(&mut self) -> io::Result<()> {
        for path in &self.arguments.paths {
            self.one(path)?;
        }
        self.report.finish()
    }

    fn one(&mut self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return self.directory(path);
        }
        let mut beginning = [0; PROBE_BYTES];
        let opened = Source::open(path).and_then(|source| {
            let read = source.read(0, &mut beginning)?;
            Ok((source, read))
        });
        let (source, read) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.report.unreadable(path, &error.to_string()),
        };
        match self.arguments.kind.or_else(|| Kind::of(path, &beginning[..read])) {
            Some(kind) => self.file(source, kind),
            None => self.not_known(path),
        }
    }

    fn directory(&mut self, path: &Path) -> io::Result<()> {
        let Some(around) = Surroundings::at(path) else { return self.not_known(path) };
        self.report.file(path, "data directory")?;
        overview::overview(&mut self.report, &around)?;
        self.around = Some(around);
        Ok(())
    }

    fn not_known(&mut self, path: &Path) -> io::Result<()> {
        self.unknown.get_or_insert_with(|| path.to_owned());
        self.report.file(path, "unknown")
    }

    fn file(&mut self, mut source: Source, kind: Kind) -> io::Result<()> {
        let is_new = self.look_around(source.path());
        let (report, around) = (&mut self.report, self.around.as_ref());
        report.file(source.path(), kind.name())?;
        if let Some(note) = around.and_then(Surroundings::usage_note).filter(|_| is_new) {
            report.note(&note)?;
        }
        if source.path().extension().is_some_and(|ending| ending == "new" || ending == "tmp") {
            report.note("it was never finished, and nothing reads it")?;
        }
        match kind {
            Kind::Format => small::format(report, &source),
            Kind::Lock => small::lock(report, &source, around),
            Kind::Root => small::root(report, &source),
            Kind::Manifest => manifest::manifest(report, &source, around),
            Kind::Journal => journal::journal(report, &source, around),
            Kind::Segment => segment::segment(report, &mut source, around, self.arguments.records),
            Kind::Index | Kind::Time => index::index(report, &source, kind),
            Kind::MetadataLog | Kind::MetadataSnapshot => metadata::metadata(report, &source, kind),
        }
    }

    /// Finds the directory that the file lies in; whether it is another one than before.
    fn look_around(&mut self, path: &Path) -> bool {
        let lies_within = |around: &Surroundings| {
            std::path::absolute(path).is_ok_and(|path| path.starts_with(around.layout().base()))
        };
        let is_new = !self.around.as_ref().is_some_and(lies_within);
        if is_new {
            self.around = Surroundings::of(path);
        }
        is_new
    }

    fn outcome(self) -> Result<(), Error> {
        let (damages, unreadable) = self.report.troubles();
        match self.unknown {
            _ if damages + unreadable > 0 => Err(Error::Damaged { damages, unreadable }),
            Some(path) => Err(Error::Unknown(path)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Folder, dumped};
    use super::*;

    /// A reader that goes away.
    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_failure() {
        let folder = Folder::new("closed");
        let root = folder.write("root", include_bytes!("../../../shards/src/format/testdata/root.v1"));
        let arguments = DumpArguments { paths: vec![root], kind: None, records: false, json: false };
        assert!(dump_into(Box::new(Closed), &arguments).is_ok());
    }

    #[test]
    fn what_nobody_knows_is_wrong_usage_and_what_is_not_there_is_not() {
        let folder = Folder::new("unknown");
        assert_eq!(dumped(&folder.write("README", b"hello"), &[]).code, 2);
        assert_eq!(dumped(folder.path(), &[]).code, 2);
        let missing = dumped(&folder.path().join("root"), &[]);
        assert_eq!(missing.code, 1);
        assert!(missing.text.contains("UNREADABLE"), "{}", missing.text);
    }
}
