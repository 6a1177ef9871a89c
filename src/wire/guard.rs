//! The length guard: walks a request before a generated decoder may touch it.
//!
//! `kafka-protocol` 0.18 allocates by the counts it reads: a body of four bytes asks it for 154 GB. Here each request
//! that it decodes is described by a small table, and one walker checks that every length and count lies within the
//! bytes that are there, that nothing is null where its version forbids that, and that all arrays and tagged fields
//! together hold at most [`ELEMENTS_MAX`] elements, so that what the decoder builds stays in proportion to the frame.
//! The tables live in [`schemas`]. The guard reads shapes and no values; text it leaves to the decoder.

pub mod schemas;

use super::{Encoding, Error, Reader, Result};

/// The most elements of one request. One ListOffsets over 200,000 partitions passes; what the decoder builds of the
/// smallest elements (a string of one byte becomes a header of 32) stays at some tens of MiB.
pub const ELEMENTS_MAX: usize = 1 << 18;

/// The deepest nesting of arrays in a table, so that the walker's recursion is bounded by a constant.
pub const DEPTH_MAX: usize = 4;

/// What a request looks like, over all of its versions.
#[derive(Debug)]
pub struct Schema {
    /// Its name.
    pub name: &'static str,
    /// The API.
    pub api_key: i16,
    /// The versions that the table describes.
    pub versions: std::ops::RangeInclusive<i16>,
    /// The first flexible version.
    pub flexible_from: i16,
    /// The fields in order, without the tagged ones.
    pub fields: &'static [Field],
}

/// A field, and the versions that have it.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// The first version that has it.
    pub since: i16,
    /// The last version that has it.
    pub until: i16,
    /// What it is.
    pub kind: Kind,
}

/// What a field is. `nullable_from` is the first version that allows null, [`NEVER`] if none does.
#[derive(Debug)]
pub enum Kind {
    /// So many bytes.
    Fixed(usize),
    /// A string.
    String {
        /// The first version that allows null.
        nullable_from: i16,
    },
    /// An array.
    Array {
        /// The first version that allows null.
        nullable_from: i16,
        /// What each element is.
        element: &'static Kind,
    },
    /// A structure, which ends in tagged fields in flexible versions.
    Struct(&'static [Field]),
}

/// No version allows null.
pub const NEVER: i16 = i16::MAX;

impl Schema {
    /// Checks the request whose body begins at byte `body_at` of `frame`, and says where it ends. Bytes behind the
    /// end are not looked at.
    pub fn check(&self, frame: &[u8], body_at: usize, version: i16) -> Result<usize> {
        if !self.versions.contains(&version) {
            return Err(Error::Version { what: self.name, version });
        }
        let reader = Reader::new(frame, body_at, Encoding::of(version, self.flexible_from));
        let mut walker = Walker { reader, version, elements: 0 };
        walker.structure(self.fields, 0)?;
        Ok(walker.reader.position())
    }
}

impl Kind {
    /// The fewest bytes that this takes.
    fn least(&self, version: i16, encoding: Encoding) -> usize {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::String { .. } => encoding.least_string(),
            Self::Array { .. } => encoding.least_array(),
            Self::Struct(fields) => {
                let present = fields.iter().filter(|field| field.is_in(version));
                let bytes: usize = present.map(|field| field.kind.least(version, encoding)).sum();
                bytes + encoding.least_tags()
            }
        }
    }
}

impl Field {
    fn is_in(&self, version: i16) -> bool {
        (self.since..=self.until).contains(&version)
    }
}

/// Where the walk is.
struct Walker<'a> {
    reader: Reader<'a>,
    version: i16,
    elements: usize,
}

impl Walker<'_> {
    fn structure(&mut self, fields: &'static [Field], depth: usize) -> Result<()> {
        let version = self.version;
        for field in fields.iter().filter(|field| field.is_in(version)) {
            self.value(field.name, &field.kind, depth)?;
        }
        let at = self.reader.position();
        let tags = self.reader.tag_count()?;
        self.count("tagged fields", at, tags)?;
        for _ in 0..tags {
            self.reader.tag()?;
        }
        Ok(())
    }

    fn value(&mut self, name: &'static str, kind: &'static Kind, depth: usize) -> Result<()> {
        match kind {
            Kind::Fixed(bytes) => self.reader.take(name, *bytes).map(drop),
            Kind::String { nullable_from } => {
                let at = self.reader.position();
                let present = self.reader.nullable_string_bytes(name)?.is_some();
                self.allow_null(name, at, present, *nullable_from)
            }
            Kind::Array { nullable_from, element } => self.array(name, *nullable_from, element, depth + 1),
            Kind::Struct(fields) => self.structure(fields, depth),
        }
    }

    fn array(
        &mut self,
        name: &'static str,
        nullable_from: i16,
        element: &'static Kind,
        depth: usize,
    ) -> Result<()> {
        assert!(depth <= DEPTH_MAX, "a table of ours nests deeper than DEPTH_MAX");
        let at = self.reader.position();
        let least = element.least(self.version, self.reader.encoding());
        let count = self.reader.nullable_count(name, least)?;
        self.allow_null(name, at, count.is_some(), nullable_from)?;
        let count = count.unwrap_or(0);
        self.count(name, at, count)?;
        for _ in 0..count {
            self.value(name, element, depth)?;
        }
        Ok(())
    }

    fn allow_null(&self, what: &'static str, at: usize, present: bool, nullable_from: i16) -> Result<()> {
        if present || self.version >= nullable_from { Ok(()) } else { Err(Error::Null { what, at }) }
    }

    /// Counts elements over the whole request, before any of them is walked.
    fn count(&mut self, what: &'static str, at: usize, count: usize) -> Result<()> {
        self.elements = self.elements.saturating_add(count);
        if self.elements > ELEMENTS_MAX {
            return Err(Error::TooManyElements { what, at, limit: ELEMENTS_MAX });
        }
        Ok(())
    }
}
