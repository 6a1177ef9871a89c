//! The trait behind which the broker keeps what must outlive it and, in a cluster, be agreed upon.
//!
//! The operations are those that etcd offers too (compare-and-set over revisions, ordered prefix reads, an
//! ordered watch), so that an implementation over etcd fits without a change to the callers. Leases would be
//! further methods; nothing here stands in their way. Dispatch is static: the broker is generic over its
//! store.

use super::{
    error::Error,
    transaction::{Entry, Range, Revision, Transaction},
    watch::Watch,
};

/// A small ordered key space with transactions, durable before they are answered.
///
/// What every implementation promises, and the contract suite checks:
/// - commits are totally ordered by revision, and a reading shows all of the commits up to some revision and
///   nothing of later ones;
/// - a commit answered with `Ok` is durable; one answered with [`Error::Conflict`], [`Error::Invalid`] or
///   [`Error::Full`] has changed nothing; one answered with [`Error::Poisoned`], or dropped before its
///   answer, has either happened whole or not at all;
/// - a watch yields every commit that touches its prefix, in order, whole and once, or says that it lagged.
///
/// The futures need not be `Send`: they run on the control thread.
#[expect(async_fn_in_trait, reason = "callers are generic over the store and stay on the control thread")]
pub trait MetadataStore {
    /// The entry under `key`, if there is one.
    async fn get(&self, key: &[u8]) -> Result<Option<Entry>, Error>;

    /// The entries whose keys start with `prefix` (all of them for an empty one), ascending, and the revision
    /// they are read at.
    async fn range(&self, prefix: &[u8]) -> Result<Range, Error>;

    /// Applies the transaction if all of its conditions hold, and answers when it is durable.
    async fn commit(&self, transaction: Transaction) -> Result<Revision, Error>;

    /// The commits from revision `from` on that change keys under `prefix`. To continue a
    /// [`range`](Self::range), pass its `revision.next()`. [`Error::Compacted`] asks the caller to read the
    /// range again.
    async fn watch(&self, prefix: &[u8], from: Revision) -> Result<Watch, Error>;
}
