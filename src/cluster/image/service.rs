//! A store together with its image: what the control thread keeps, and through which every change goes.
//!
//! [`Metadata::open`] gives two halves. The [`Follower`] turns committed changes into images and must be
//! driven (as a task, or in a `select!`) for as long as the other half is used; [`Metadata`] commits changes
//! and answers when the image includes them, so whoever made a change reads it back. When the follower ends,
//! waiting changes end with [`ChangeError::Closed`].
//!
//! Cancellation: a change whose future is dropped has happened or has not; the image tells.

use std::rc::Rc;

use super::{
    changes::ChangeRefused,
    publish::{ImagePublisher, ImageSubscription, publication},
    snapshot::{ImageError, MetadataImage},
};
use crate::cluster::{
    limits::CHANGE_ATTEMPTS_MAX,
    store::{Error, MetadataStore, Revision, Transaction, Watch, WatchEnd},
};

/// Why the metadata cannot be followed any further.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] Error),
    /// What the store holds is not understood.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The store has ended.
    #[error("the metadata store has closed")]
    Closed,
}

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// It is refused as things stand.
    #[error(transparent)]
    Refused(#[from] ChangeRefused),
    /// The store did not commit it; see there whether it may have happened.
    #[error(transparent)]
    Store(Error),
    /// Other changes came first, again and again; it may be tried once more.
    #[error("other changes to the metadata came first {0} times")]
    Contended(usize),
    /// The follower has ended: if the change was committed, nobody will see it before the next start.
    #[error("the metadata is not followed any more")]
    Closed,
}

/// Commits changes and hands out images.
#[derive(Debug)]
pub struct Metadata<S> {
    store: Rc<S>,
    images: ImageSubscription,
}

/// Turns the store's changes into images.
#[derive(Debug)]
pub struct Follower<S> {
    store: Rc<S>,
    watch: Watch,
    publisher: ImagePublisher,
}

impl<S: MetadataStore> Metadata<S> {
    /// Reads the image that the store holds and begins to watch it.
    pub async fn open(store: S) -> Result<(Metadata<S>, Follower<S>), MetadataError> {
        let store = Rc::new(store);
        let (image, watch) = read(&*store).await?;
        let (publisher, images) = publication(image);
        Ok((Metadata { store: Rc::clone(&store), images }, Follower { store, watch, publisher }))
    }

    /// A reader's end, to be handed to a shard.
    pub fn subscribe(&self) -> ImageSubscription {
        self.images.clone()
    }

    /// Makes one change: `decide` is called with the newest image, again each time that another commit came
    /// in between. Answers when the change is durable and the image includes it.
    pub async fn change<T>(
        &self,
        mut decide: impl FnMut(&MetadataImage) -> Result<(Transaction, T), ChangeRefused>,
    ) -> Result<T, ChangeError> {
        let mut images = self.subscribe();
        for _ in 0..CHANGE_ATTEMPTS_MAX {
            let image = images.latest();
            let (transaction, outcome) = decide(&image)?;
            let awaited = match self.store.commit(transaction).await {
                Ok(revision) => return self.included(revision).await.map(|()| outcome),
                // The image is behind by the commit that came in between.
                Err(error) if error.is_conflict() => image.revision().next(),
                Err(error) => return Err(ChangeError::Store(error)),
            };
            images.reached(awaited).await.ok_or(ChangeError::Closed)?;
        }
        Err(ChangeError::Contended(CHANGE_ATTEMPTS_MAX))
    }

    async fn included(&self, revision: Revision) -> Result<(), ChangeError> {
        self.subscribe().reached(revision).await.map(drop).ok_or(ChangeError::Closed)
    }
}

impl<S: MetadataStore> Follower<S> {
    /// Publishes an image for each commit until the store closes or fails; returns why.
    pub async fn run(mut self) -> MetadataError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), MetadataError> {
        match self.watch.next().await {
            Ok(committed) => self.publisher.publish(self.publisher.latest().advance(&committed)?),
            Err(WatchEnd::Lagged) => {
                let (image, watch) = read(&*self.store).await?;
                self.watch = watch;
                self.publisher.publish(image);
            }
            Err(WatchEnd::Closed) => return Err(MetadataError::Closed),
        }
        Ok(())
    }
}

/// The whole image, and a watch that continues it.
async fn read(store: &impl MetadataStore) -> Result<(MetadataImage, Watch), MetadataError> {
    let range = store.range(b"").await?;
    let watch = store.watch(b"", range.revision.next()).await?;
    Ok((MetadataImage::from_range(range)?, watch))
}
