//! From a frame to its answer, on the shard that the connection lives on.
//!
//! A request's future is polled once within the call that brings it, so that what it appends is handed over in the order of
//! its connection's requests; only what has to wait becomes a task. Answers may come in any order: the connection puts them
//! into the order of the requests.

use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Waker};

use corelane_shards::memory::Slice;
use corelane_shards::net::{self, Answer, Peer, ResponseSlot, Stage};

use super::engine::BrokerEngine;
use crate::api::{self, CloseReason, Dispatch, Segment};

/// Fetch's number: its requests wait for long and must not hold receive memory meanwhile.
const FETCH_KEY: [u8; 2] = [0, 1];

/// The service of one shard.
pub(super) struct BrokerService {
    engine: Rc<BrokerEngine>,
}

impl BrokerService {
    /// A service over the logs.
    pub(super) fn new(engine: Rc<BrokerEngine>) -> BrokerService {
        BrokerService { engine }
    }
}

impl net::Service for BrokerService {
    fn request(&self, request: net::Request) {
        let net::Request { mut context, frame, slot } = request;
        context.stamps.set(Stage::Decoded, self.engine.moment());
        // A copy of a few hundred bytes, instead of a receive buffer held until data arrive.
        let frame = if frame.starts_with(&FETCH_KEY) {
            Slice::from_vec(frame.to_vec())
        } else {
            frame.slice(0..frame.len())
        };
        let engine = Rc::clone(&self.engine);
        let peer = Rc::clone(&context.peer);
        let mut future = Box::pin(async move {
            let outcome = answer(&engine, &frame, &peer).await;
            drop(frame);
            give(&engine, &peer, slot, outcome);
        });
        if future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.engine.spawn(future);
        }
    }

    fn disconnected(&self, peer: &Rc<Peer>) {
        tracing::debug!(connection = peer.connection.0, address = %peer.address, "disconnected");
    }
}

type Outcome = Result<Option<Vec<Slice>>, CloseReason>;

async fn answer(engine: &BrokerEngine, frame: &[u8], peer: &Peer) -> Outcome {
    match api::dispatch(frame) {
        Dispatch::Close(reason) => Err(reason),
        Dispatch::Answer(bytes) => Ok(Some(vec![Slice::from_vec(bytes.into())])),
        Dispatch::Serve(request) => {
            let cluster = engine.cluster_id();
            let context = engine.context(&cluster, peer.listener);
            match api::serve(request, &context, engine).await {
                api::Answer::Respond(segments) => Ok(Some(segments.into_iter().map(slice).collect())),
                api::Answer::NoResponse => Ok(None),
                api::Answer::Close(reason) => Err(reason),
            }
        }
    }
}

fn slice(segment: Segment<Slice>) -> Slice {
    match segment {
        Segment::Owned(bytes) => Slice::from_vec(bytes.into()),
        Segment::Records(records) => records,
    }
}

fn give(engine: &BrokerEngine, peer: &Peer, slot: ResponseSlot, outcome: Outcome) {
    match outcome {
        Ok(Some(slices)) => slot.answer(Answer::Response(slices)),
        Ok(None) => slot.answer(Answer::Skip),
        Err(reason) => {
            if let Some(untold) = engine.closed().admit(engine.moment()) {
                tracing::warn!(connection = peer.connection.0, address = %peer.address, %reason, untold,
                    "a connection is closed for its request");
            }
            slot.answer(Answer::Close);
        }
    }
}
