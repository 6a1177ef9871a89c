//! What can be typed after `corelane dump`.

use std::path::PathBuf;

use clap::Args;

use super::kind::Kind;

/// What to show, and how.
#[derive(Debug, Args)]
pub(crate) struct DumpArguments {
    /// A data directory, for an overview, or files in it; which is which is seen from their bytes and names
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    /// What the files are, where neither bytes nor name say it
    #[arg(long = "as", value_name = "KIND", value_enum)]
    pub(super) kind: Option<Kind>,
    /// Of segments, also each record: key, value and headers
    #[arg(long)]
    pub(super) records: bool,
    /// One JSON object a line instead of tables
    #[arg(long)]
    pub(super) json: bool,
}
