//! The data directory that a file lies in: whether it is in use, and what its other files say of this one.
//!
//! Everything is read when it is asked for, once, and what cannot be read is simply not known: each file's own dump tells
//! what is wrong with it. Beside a running broker these are pictures of different moments, so a caller that concludes
//! damage from two files reads the one again first.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::path::Path;

use corelane_shards::directory::{Layout, Usage};
use corelane_shards::format::manifest::{Manifest, Partition};
use corelane_shards::format::root::Root;
use corelane_shards::types::{PartitionId, ShardIndex, TopicId};

use super::source::Source;
use crate::cluster::image::MetadataImage;
use crate::cluster::store::{self, DirectoryFiles};

/// The longest root or manifest that is read into memory, which is the longest that a start reads. Bytes.
pub(super) const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// How far below the data directory a file may lie: `topics/<id>/<partition>/<file>`.
const DEPTH_MAX: usize = 5;

/// A data directory around a file.
pub(super) struct Surroundings {
    layout: Layout,
    usage: Option<Usage>,
    manifests: OnceCell<Vec<Named>>,
    places: OnceCell<HashMap<String, (usize, usize)>>,
    image: OnceCell<Result<Option<MetadataImage>, String>>,
}

/// A manifest that the root names.
pub(super) struct Named {
    /// Its file's name.
    pub(super) name: String,
    /// What it says, or why it does not.
    pub(super) manifest: Result<Manifest, String>,
}

impl Surroundings {
    /// The data directory that has `path` in it, or is it.
    pub(super) fn of(path: &Path) -> Option<Surroundings> {
        let absolute = std::path::absolute(path).ok()?;
        absolute.ancestors().take(DEPTH_MAX).find_map(Surroundings::at)
    }

    /// The data directory at exactly this path, if there is one.
    pub(super) fn at(base: &Path) -> Option<Surroundings> {
        let layout = Layout::new(base);
        let is_ours = layout.format().is_file() || layout.root().is_file();
        is_ours.then(|| Surroundings {
            usage: Usage::look(&layout).ok(),
            layout,
            manifests: OnceCell::new(),
            places: OnceCell::new(),
            image: OnceCell::new(),
        })
    }

    /// Where its files lie.
    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether a broker may be writing, as far as this user can see.
    pub(super) fn is_in_use(&self) -> bool {
        self.usage != Some(Usage::Free)
    }

    /// What to say of that.
    pub(super) fn usage_note(&self) -> Option<String> {
        let who = match self.usage {
            Some(Usage::Free) => return None,
            Some(Usage::Held(Some(pid))) => format!("process {pid} uses this data directory"),
            Some(Usage::Held(None)) => "a process uses this data directory".to_owned(),
            None => "whether a process uses this data directory cannot be seen".to_owned(),
        };
        Some(format!("{who}: what is shown may be in motion, and of different moments"))
    }

    /// The root, as it is now.
    pub(super) fn root(&self) -> Result<Root, String> {
        let bytes = Source::open(&self.layout.root()).and_then(|source| source.whole(MANIFEST_BYTES_MAX));
        Root::decode(&bytes.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    }

    /// The manifests that the root names, in the order of their shards.
    pub(super) fn manifests(&self) -> &[Named] {
        self.manifests.get_or_init(|| {
            let names = self.root().map(|root| root.manifests).unwrap_or_default();
            let named = |name: String| Named { manifest: self.read_manifest(&name), name };
            names.into_iter().map(named).collect()
        })
    }

    /// A shard's manifest, as it was when it was first asked for.
    pub(super) fn manifest(&self, shard: ShardIndex) -> Option<&Named> {
        self.manifests().get(usize::from(shard.get()))
    }

    /// A manifest, as it is now.
    pub(super) fn read_manifest(&self, name: &str) -> Result<Manifest, String> {
        let path = self.layout.manifest(name).ok_or("it has a name that no manifest has")?;
        let bytes = Source::open(&path).and_then(|source| source.whole(MANIFEST_BYTES_MAX));
        Manifest::decode(&bytes.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
    }

    /// Whether every manifest was read: then what none of them names is named nowhere.
    pub(super) fn has_all_manifests(&self) -> bool {
        !self.manifests().is_empty() && self.manifests().iter().all(|named| named.manifest.is_ok())
    }

    /// What the manifests say of the log whose folder this is.
    pub(super) fn log_in(&self, folder: &Path) -> Option<&Partition> {
        let index = folder.file_name()?.to_str()?;
        let topic = folder.parent()?.file_name()?.to_str()?;
        let (shard, place) = self.places().get(&format!("{topic}/{index}"))?;
        self.manifests()[*shard].manifest.as_ref().ok()?.partitions.get(*place)
    }

    fn places(&self) -> &HashMap<String, (usize, usize)> {
        self.places.get_or_init(|| {
            let shards = self.manifests().iter().enumerate();
            let parts = shards.flat_map(|(shard, named)| {
                let parts = named.manifest.iter().flat_map(|manifest| manifest.partitions.iter().enumerate());
                parts.map(move |(place, part)| (part.id().to_string(), (shard, place)))
            });
            parts.collect()
        })
    }

    /// The metadata; none if the directory has none yet.
    pub(super) fn image(&self) -> &Result<Option<MetadataImage>, String> {
        self.image.get_or_init(|| {
            let files =
                DirectoryFiles::existing(&self.layout.metadata()).map_err(|error| error.to_string())?;
            let range = store::read(&files).map_err(|error| error.to_string())?;
            range.map(MetadataImage::from_range).transpose().map_err(|error| error.to_string())
        })
    }

    /// The name of the log whose folder this is, as far as the metadata have it.
    pub(super) fn log_name_in(&self, folder: &Path) -> Option<String> {
        let index = folder.file_name()?.to_str()?;
        let id = folder.parent()?.file_name()?.to_str()?;
        let image = self.image().as_ref().ok()?.as_ref()?;
        let mut topics = image.topics().chain(image.deleting_topics());
        topics.find(|topic| topic.id.to_string() == id).map(|topic| format!("{}/{index}", topic.name))
    }

    fn topic_name(&self, id: TopicId) -> Option<&str> {
        let image = self.image().as_ref().ok()?.as_ref()?;
        image.topic_by_id(id).map(|topic| topic.name.as_str())
    }
}

/// A log as people call it, or by its id where nobody knows its name.
pub(super) fn log_name(around: Option<&Surroundings>, id: PartitionId) -> String {
    let name = around.and_then(|around| around.topic_name(id.topic));
    name.map_or_else(|| id.to_string(), |name| format!("{name}/{}", id.index))
}
