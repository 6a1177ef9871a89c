//! From a frame to its answer, on the shard that the connection lives on.
//!
//! A request's future is polled once within the call that brings it, so that what it appends is handed over in the order of
//! its connection's requests; only what has to wait becomes a task. Answers may come in any order: the connection puts them
//! into the order of the requests.

use std::future::Future;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use corelane_shards::clock::Moment;
use corelane_shards::memory::Slice;
use corelane_shards::net::{self, Answer, Peer, RequestKind, ResponseSlot, Stage, Stamps};

use super::engine::BrokerEngine;
use crate::api::{self, CloseReason, Dispatch, Segment};

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
        let net::Request { context, frame, slot } = request;
        let net::RequestContext { peer, mut stamps } = context;
        stamps.set(Stage::Started, Moment::now());
        let kind = kind_of(&frame);
        // A copy of a few hundred bytes, instead of a receive buffer held until data arrive.
        let frame = if kind == RequestKind::Read {
            Slice::from_vec(frame.to_vec())
        } else {
            frame.slice(0..frame.len())
        };
        let engine = Rc::clone(&self.engine);
        let (asked, whole) = (Rc::clone(&peer), frame.clone());
        let mut answered = Box::pin(async move { answer(&engine, &frame, &asked).await });
        let first =
            self.engine.with_frame(whole, || answered.as_mut().poll(&mut Context::from_waker(Waker::noop())));
        let handled = Moment::now();
        stamps.set(Stage::Handled, handled);
        let waiting = Waiting { engine: Rc::clone(&self.engine), peer, slot, kind, stamps };
        match first {
            Poll::Ready(outcome) => waiting.give(outcome, handled),
            Poll::Pending => self.engine.spawn(Box::pin(async move {
                let outcome = answered.await;
                waiting.give(outcome, Moment::now());
            })),
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

/// A request without its bytes.
struct Waiting {
    engine: Rc<BrokerEngine>,
    peer: Rc<Peer>,
    slot: ResponseSlot,
    kind: RequestKind,
    stamps: Stamps,
}

impl Waiting {
    /// Gives the answer that was ready at `now`.
    fn give(mut self, outcome: Outcome, now: Moment) {
        self.stamps.set(Stage::Answered, now);
        let answer = match outcome {
            Ok(Some(slices)) => Answer::Response(slices),
            Ok(None) => Answer::Skip,
            Err(reason) => {
                self.tell(&reason, now);
                Answer::Close
            }
        };
        self.slot.answer_stamped(answer, self.kind, self.stamps);
    }

    fn tell(&self, reason: &CloseReason, now: Moment) {
        let peer = &self.peer;
        if let Some(untold) = self.engine.closed().admit(now) {
            tracing::warn!(connection = peer.connection.0, address = %peer.address, %reason, untold,
                "a connection is closed for its request");
        }
    }
}

/// What a frame asks for, by its API's number: Produce's is 0, Fetch's is 1.
fn kind_of(frame: &[u8]) -> RequestKind {
    match frame {
        [0, 0, ..] => RequestKind::Append,
        [0, 1, ..] => RequestKind::Read,
        _ => RequestKind::Other,
    }
}
