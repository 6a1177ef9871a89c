//! Changes of the metadata, made on the control thread for whoever asks.
//!
//! A change is answered when it is durable, the image has it, and every shard has followed that image: a client that
//! creates a topic and produces at once finds its logs open on every shard.

use std::rc::Rc;
use std::sync::Arc;

use corelane_shards::types::TopicId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::cluster::image::{ChangeError, Metadata, MetadataImage, NewTopic, Topic};
use crate::cluster::store::{MetadataStore, Revision};

/// Commands that may wait for the control thread.
const COMMANDS_MAX: usize = 1024;

/// What a shard asks for.
pub(super) enum Command {
    /// Create a topic.
    CreateTopic(NewTopic, oneshot::Sender<Result<Arc<Topic>, ChangeError>>),
    /// Delete a topic; its files go with the shards' next turn, its id at the next start.
    DeleteTopic(TopicId, oneshot::Sender<Result<(), ChangeError>>),
}

/// The shards' end: any shard's thread may ask.
#[derive(Clone)]
pub(super) struct Control {
    commands: mpsc::Sender<Command>,
}

/// The control thread's end.
pub(super) struct Commands {
    commands: mpsc::Receiver<Command>,
    /// The revision that each shard has followed.
    followed: Vec<watch::Receiver<Revision>>,
}

/// Both ends. `followed` tells how far each shard has followed the metadata.
pub(super) fn channel(followed: Vec<watch::Receiver<Revision>>) -> (Control, Commands) {
    let (sender, receiver) = mpsc::channel(COMMANDS_MAX);
    (Control { commands: sender }, Commands { commands: receiver, followed })
}

impl Control {
    /// Creates a topic; see the module's text for when it answers.
    pub(super) async fn create_topic(&self, topic: NewTopic) -> Result<Arc<Topic>, ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::CreateTopic(topic, answer)).await?;
        answered.await.unwrap_or(Err(ChangeError::Closed))
    }

    /// Deletes a topic.
    pub(super) async fn delete_topic(&self, topic: TopicId) -> Result<(), ChangeError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::DeleteTopic(topic, answer)).await?;
        answered.await.unwrap_or(Err(ChangeError::Closed))
    }

    async fn send(&self, command: Command) -> Result<(), ChangeError> {
        self.commands.send(command).await.map_err(|_| ChangeError::Closed)
    }
}

impl Commands {
    /// Carries commands out, one after the other, until all shards are gone.
    pub(super) async fn run<S: MetadataStore>(mut self, metadata: Rc<Metadata<S>>) {
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::CreateTopic(topic, answer) => {
                    let created = metadata.change(|image| image.create_topic(topic.clone())).await;
                    self.settle(&metadata).await;
                    // Whoever asked may be gone.
                    let _unread = answer.send(created);
                }
                Command::DeleteTopic(topic, answer) => {
                    let deleted = metadata.change(|image| delete(image, topic)).await;
                    self.settle(&metadata).await;
                    let _unread = answer.send(deleted);
                }
            }
        }
    }

    /// Waits until every shard has followed the newest image.
    async fn settle<S: MetadataStore>(&mut self, metadata: &Metadata<S>) {
        let revision = metadata.subscribe().latest().revision();
        for shard in &mut self.followed {
            // A shard that is gone follows nothing any more.
            let _gone = shard.wait_for(|followed| *followed >= revision).await;
        }
    }
}

fn delete(
    image: &MetadataImage,
    topic: TopicId,
) -> Result<(crate::cluster::store::Transaction, ()), crate::cluster::image::ChangeRefused> {
    Ok((image.begin_delete(topic)?.unwrap_or_default(), ()))
}
