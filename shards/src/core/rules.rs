//! The rules of the commit protocol that a mutant may break.
//!
//! In a build that serves, every rule holds and the question costs nothing. With the feature `sim`, a rule can be
//! switched off, so that the simulator shows that it would notice: a durability test that has never failed proves
//! nothing.

macro_rules! rules {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// One rule of the protocol.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(non_camel_case_types, reason = "rules are named as the protocol's description names them")]
        pub enum Rule { $($(#[doc = $doc])* $name,)* }

        impl Rule {
            /// Every rule, in the order of the protocol.
            pub const ALL: &'static [Rule] = &[$(Rule::$name,)*];

            /// What the rule says.
            pub fn meaning(self) -> &'static str {
                match self { $(Rule::$name => concat!($($doc,)*),)* }
            }
        }
    };
}

rules! {
    /// Recovery writes, flushes and commits a manifest before the shard opens.
    recovery_commits,
    /// Recovery flushes segments before it writes its manifest.
    recovery_flushes,
    /// Every opening uses a new journal generation.
    generation_is_new,
    /// Every opening stamps a new leader epoch.
    epoch_is_new,
    /// A journal group is live only if it names its predecessor's checksum.
    groups_are_chained,
    /// acks=1 waits for the writes of all earlier large batches of its partition.
    leader_ack_waits_for_large,
    /// A large batch's entry is staged before its write may be acked.
    large_is_staged,
    /// acks=all of a large batch waits for the flush of its segment.
    full_ack_waits_for_segment,
    /// ... and for the directory entry of a new segment file.
    full_ack_waits_for_directory,
    /// Only whole 4 KiB blocks are trusted on disk; fragments go by value.
    fragments_by_value,
    /// A digest that does not match ends its partition only.
    cut_one_partition,
    /// After a digest that does not match, later entries of that partition are dropped.
    no_holes,
    /// Journal entries name the topic's id, and a deleted id's entries are dead.
    entries_name_the_incarnation,
    /// The producers in the manifest are those at the flushed position.
    producers_are_exact,
    /// ... and are renewed at each checkpoint.
    producers_are_fresh,
    /// A flush covers only writes that completed before it was issued.
    flush_covers_completed,
    /// The journal's tail moves only when the manifest is durable.
    trim_after_commit,
    /// Segments are flushed before the manifest is written.
    flush_before_manifest,
    /// The manifest covers completed segment writes only.
    checkpoint_covers_completed,
    /// A staging chunk is overwritten only when its groups are durable.
    staging_waits_for_durable,
    /// A journal write holds the memory it writes from until it has completed.
    writes_hold_their_memory,
    /// An entry is published before it is acked.
    publish_before_ack,
    /// Recovery leaves staging memory alone until its manifest is durable.
    staging_is_kept,
    /// Groups from staging memory follow the journal by sequence and checksum.
    staging_is_ordered,
    /// A grown journal counts only from the manifest on, and not while the live part wraps.
    growth_by_manifest,
    /// Recovery waits until no write of the dead process can land any more.
    writes_are_fenced,
    /// A failed flush stops the shard; it is never tried again.
    failures_stop,
    /// A recognised duplicate waits for what its original waits for.
    duplicates_wait,
    /// Segment bytes above the manifest's position count only if the journal vouches for them.
    journal_vouches,
    /// A vouched group that is missing, or vouched bytes that do not match, are damage.
    damage_is_reported,
    /// A journal that is vouched for only by a later valid group is a torn end.
    torn_end_is_no_damage,
    /// A consumer is shown durable records only.
    high_watermark_is_durable,
    /// A batch read back from disk is served only if its checksum is right.
    reads_are_checked,
    /// Index files speak only of what a manifest vouches for, and are not used if they speak of more than is there.
    index_files_follow_the_manifest,
    /// The padding behind a partial block is zeroed, not left from the buffer's former use.
    padding_is_zeroed,
    /// Recovery writes a large batch anew if nothing says that it was flushed.
    unflushed_large_is_rewritten,
    /// A stop is clean only if every shard's log is in its manifest and nothing is under way.
    clean_stop_is_settled,
    /// A failed large write is journaled, and its partition refuses appends.
    failed_large_is_void,
    /// Deleted records stay deleted: the log start is journaled before it is answered.
    log_start_is_journaled,
    /// A sequence that leaves a gap behind its producer's last batch is refused.
    sequence_gaps_are_refused,
}

/// Which rules hold.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    #[cfg(feature = "sim")]
    broken: Vec<Rule>,
}

impl Rules {
    /// Whether `rule` holds; always, in a build that serves.
    pub fn hold(&self, rule: Rule) -> bool {
        #[cfg(feature = "sim")]
        return !self.broken.contains(&rule);
        #[cfg(not(feature = "sim"))]
        {
            let _every_rule_holds = rule;
            true
        }
    }

    /// All rules but these.
    #[cfg(feature = "sim")]
    pub fn without(broken: &[Rule]) -> Rules {
        Rules { broken: broken.to_vec() }
    }
}
