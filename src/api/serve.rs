//! The single entry behind [`dispatch`](super::dispatch): from a request that is served to its answer.

use std::future::Future;

use bytes::Bytes;

use super::api_versions::Identity;
use super::engine::Engine;
use super::image_view::ImageView;
use super::{
    CloseReason, Request, api_versions, create_topics, delete_topics, describe_cluster, describe_configs,
    fetch, find_coordinator, init_producer_id, list_offsets, metadata, offset_for_leader_epoch, produce,
};
use crate::cluster::image::NewTopic;
use crate::config::Settings;
use crate::wire::fetch::response::Segment;

/// Topics that one Metadata request may bring into being; the others it names stay unknown, and clients ask again.
const AUTO_CREATED_PER_REQUEST_MAX: usize = 64;

/// What a request is served within, besides the log.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The cluster and node that the port stands for.
    pub identity: Identity<'a>,
    /// The name of the listener that the client came in by; it is told addresses of this one.
    pub listener: &'a str,
    /// The broker's settings.
    pub settings: &'a Settings,
}

impl<'a> Context<'a> {
    /// The newest metadata as this listener's clients see it.
    pub fn view(&self, engine: &impl Engine) -> ImageView<'a> {
        let creates = self.settings.auto_create_topics_enable;
        ImageView::new(engine.image(), self.listener, engine.start_epoch(), creates)
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Answer<S> {
    /// Send these, which are one frame.
    Respond(Vec<Segment<S>>),
    /// The client wants no answer.
    NoResponse,
    /// Close the connection without an answer.
    Close(CloseReason),
}

impl<S> Answer<S> {
    /// A frame that lends no records.
    pub(super) fn frame(frame: Bytes) -> Self {
        Self::Respond(vec![Segment::Owned(frame)])
    }
}

impl<S> From<Result<Bytes, CloseReason>> for Answer<S> {
    fn from(result: Result<Bytes, CloseReason>) -> Self {
        result.map_or_else(Self::Close, Self::frame)
    }
}

/// Serves a request. What a Produce request appends is handed to the engine within this call, not when the future is
/// first polled: calls in the order of a connection's requests keep the order of its records.
pub fn serve<'a, E: Engine>(
    request: Request<'a>,
    context: &'a Context<'a>,
    engine: &'a E,
) -> impl Future<Output = Answer<E::Slice>> + use<'a, E> {
    let is_produce = request.api.key == produce::API.key;
    let produced = is_produce.then(|| produce::start(request, context, engine));
    async move {
        match produced {
            Some(Ok(answer)) => answer.await,
            Some(Err(reason)) => Answer::Close(reason),
            None => serve_other(&request, context, engine).await,
        }
    }
}

async fn serve_other<E: Engine>(
    request: &Request<'_>,
    context: &Context<'_>,
    engine: &E,
) -> Answer<E::Slice> {
    let answer = match request.api.key {
        key if key == fetch::API.key => return fetch::handle(request, context, engine).await,
        key if key == list_offsets::API.key => list_offsets::handle(request, engine).await,
        key if key == metadata::API.key => serve_metadata(request, context, engine).await,
        key if key == api_versions::API.key => api_versions::handle(request, context.identity),
        key if key == create_topics::API.key => create_topics::handle(request, context, engine).await,
        key if key == delete_topics::API.key => delete_topics::handle(request, engine).await,
        key if key == init_producer_id::API.key => init_producer_id::handle(request, engine).await,
        key if key == offset_for_leader_epoch::API.key => {
            offset_for_leader_epoch::handle(request, engine).await
        }
        key if key == describe_configs::API.key => describe_configs::handle(request, context, engine),
        key if key == find_coordinator::API.key => find_coordinator::handle(request, &context.view(engine)),
        key if key == describe_cluster::API.key => describe_cluster::handle(request, &context.view(engine)),
        key => Err(CloseReason::UnknownApi { api_key: key, api_version: request.version() }),
    };
    answer.into()
}

/// Creates what the request brings into being, then answers from the image that has it.
async fn serve_metadata(
    request: &Request<'_>,
    context: &Context<'_>,
    engine: &impl Engine,
) -> Result<Bytes, CloseReason> {
    let body = metadata::decode(request)?;
    let view = context.view(engine);
    let names = metadata::topics_to_create(&body, request.version(), &view);
    for name in names.into_iter().take(AUTO_CREATED_PER_REQUEST_MAX) {
        // What is refused stays unknown, which is what the client is told.
        if let Ok(id) = engine.new_topic_id() {
            let partitions = i32::try_from(context.settings.num_partitions).unwrap_or(i32::MAX);
            let topic = NewTopic {
                name: name.to_owned(),
                id,
                partitions,
                replication_factor: 1,
                overrides: Default::default(),
            };
            let _refused = engine.create_topic(topic).await.is_err();
        }
    }
    metadata::handle(request, &body, &context.view(engine))
}
