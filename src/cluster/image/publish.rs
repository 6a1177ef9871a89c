//! How images reach other threads: the newest one replaces the one before; nobody waits for a slow reader and
//! nobody sees half of one.
//!
//! A subscription needs no runtime: a shard polls it between two requests, the control thread may await it.
//! Dropping the future of [`ImageSubscription::reached`] loses nothing.

use std::sync::Arc;

use tokio::sync::watch;

use super::snapshot::MetadataImage;
use crate::cluster::store::Revision;

/// The control thread's end.
#[derive(Debug)]
pub struct ImagePublisher {
    sender: watch::Sender<Arc<MetadataImage>>,
}

/// A reader's end; each reader has its own clone.
#[derive(Clone, Debug)]
pub struct ImageSubscription {
    receiver: watch::Receiver<Arc<MetadataImage>>,
}

/// A publisher and its first subscription.
pub fn publication(image: MetadataImage) -> (ImagePublisher, ImageSubscription) {
    let (sender, receiver) = watch::channel(Arc::new(image));
    (ImagePublisher { sender }, ImageSubscription { receiver })
}

impl ImagePublisher {
    /// Replaces the image by a later one.
    pub fn publish(&self, image: MetadataImage) {
        assert!(image.revision() >= self.latest().revision(), "images never go back");
        self.sender.send_replace(Arc::new(image));
    }

    /// The image that readers see now.
    pub fn latest(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.sender.borrow())
    }
}

impl ImageSubscription {
    /// The newest image. Keep the `Arc` for as long as one request needs it, so that it sees one state
    /// throughout.
    pub fn latest(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.receiver.borrow())
    }

    /// The newest image if this subscription has not returned it from here before.
    pub fn poll_changed(&mut self) -> Option<Arc<MetadataImage>> {
        // Not the receiver's own `has_changed`: that forgets the last image once the publisher is gone.
        let image = self.receiver.borrow_and_update();
        image.has_changed().then(|| Arc::clone(&image))
    }

    /// Waits for an image that includes the commit; `None` when there will be none, because the publisher is
    /// gone.
    pub async fn reached(&mut self, revision: Revision) -> Option<Arc<MetadataImage>> {
        let image = self.receiver.wait_for(|image| image.revision() >= revision).await;
        image.ok().map(|image| Arc::clone(&image))
    }
}
