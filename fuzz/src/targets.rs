//! All targets by name, for whoever runs them in turn.

/// A target.
#[derive(Clone, Copy)]
pub struct Target {
    /// The name of its program and of its folder in the corpus.
    pub name: &'static str,
    /// Reads an input; panics where an invariant does not hold.
    pub run: fn(&[u8]),
}

/// Every target.
pub const ALL: [Target; 8] = [
    Target { name: "batch", run: super::batch },
    Target { name: "decompress", run: super::decompress },
    Target { name: "files", run: super::files },
    Target { name: "frame", run: super::frame },
    Target { name: "index", run: super::index },
    Target { name: "journal", run: super::journal },
    Target { name: "metadata", run: super::metadata },
    Target { name: "recovery", run: super::recovery },
];
