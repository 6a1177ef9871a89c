//! Why a dump ends with another exit code than 0. What was found stands in its output already.

use std::path::PathBuf;

use crate::errors::{Explained, Page};

/// See each variant for what was found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Bytes that are not what was written, or files that cannot be read.
    #[error("{}", found(*damages, *unreadable))]
    Damaged {
        /// Places that are not as they were written.
        damages: u64,
        /// Files that should be there or readable and are not.
        unreadable: u64,
    },
    /// Neither bytes nor name say what the file is.
    #[error("{}: neither its first bytes nor its name say what this is", .0.display())]
    Unknown(PathBuf),
}

fn found(damages: u64, unreadable: u64) -> String {
    let plural = |count: u64| if count == 1 { "" } else { "s" };
    let damaged = (damages > 0).then(|| format!("{damages} place{} not as written", plural(damages)));
    let missing = (unreadable > 0).then(|| format!("{unreadable} file{} not readable", plural(unreadable)));
    [damaged, missing].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

impl Explained for Error {
    fn page(&self) -> Page {
        match self {
            Error::Damaged { .. } => Page::DumpFoundDamage,
            Error::Unknown(_) => Page::DumpUnknownFile,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_counted_in_words() {
        let said = |damages, unreadable| Error::Damaged { damages, unreadable }.to_string();
        assert_eq!(said(1, 0), "1 place not as written");
        assert_eq!(said(2, 1), "2 places not as written, 1 file not readable");
        let damaged = Error::Damaged { damages: 1, unreadable: 0 };
        assert_eq!(damaged.page().class().exit_code(), 1);
        assert_eq!(Error::Unknown(PathBuf::new()).page().class().exit_code(), 2);
    }
}
