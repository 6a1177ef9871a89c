//! Produce 3-12: appends one record batch to each partition named.
//!
//! - Advertised from 0, because librdkafka turns compression off otherwise (KAFKA-18659); 0 to 2 are not served.
//! - All batches of a request are handed over, in the order of the request, before [`start`] returns; so successive
//!   requests of a connection are appended in their order, however many are in flight.
//! - acks=-1 is answered when the batch is durable, acks=1 when it survives the death of the process. acks=0 is not
//!   answered; an error closes the connection, so that the producer sees it. Other values are answered with
//!   INVALID_REQUIRED_ACKS.
//! - Exactly one batch of magic 2 for each partition, no zstd before version 7. Null records are INVALID_RECORD.
//! - Transactions are not served: a transactional batch has the whole request answered with
//!   TRANSACTIONAL_ID_AUTHORIZATION_FAILED, as by a Kafka whose authorizer allows no transactional id.
//! - A partition named twice is answered with INVALID_REQUEST each time. Kafka appends the last and acknowledges both.
//! - Only the admin client writes to Kafka's internal topics; others are answered with INVALID_TOPIC_EXCEPTION.
//! - A duplicate of an idempotent producer's batch is a success with the offset of the first.
//! - From version 10 on, a partition that is not led here comes with who leads it (KIP-951). Record errors are empty.

use std::future::Future;

use corelane_shards::format::batch::{BatchView, Codec, Error as BatchError};
use corelane_shards::types::PartitionId;

use super::bounds::check_elements;
use super::engine::{Acks, Appended, Batch, Engine};
use super::located::{Located, endpoints_of};
use super::registry::Api;
use super::serve::{Answer, Context};
use super::view::View;
use super::{CloseReason, ErrorCode, Request};
use crate::cluster::image::{MetadataImage, is_internal_topic};
use crate::wire::leader::LeaderAndEpoch;
use crate::wire::produce::{self as codec, Partition, PartitionResponse, Topic};

/// Produce.
pub const API: Api = Api {
    key: 0,
    name: "Produce",
    advertised: 0..=*codec::VERSIONS.end(),
    served: codec::VERSIONS,
    flexible_from: codec::FLEXIBLE_FROM,
};

/// The client id of Kafka's own admin clients, which may write to internal topics.
const ADMIN_CLIENT: &str = "__admin_client";

/// The first version that may carry zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// The first version that hints at a new leader.
const HINTS_FROM: i16 = 10;

/// Reads the request and hands its batches over; the future gives the answer.
pub fn start<'a, E: Engine>(
    request: Request<'a>,
    context: &'a Context<'a>,
    engine: &'a E,
) -> Result<impl Future<Output = Answer<E::Slice>> + use<'a, E>, CloseReason> {
    let body = codec::Request::parse(request.frame, request.header.body_at, request.version())?;
    let partitions: usize = body.topics().map(|topic| 1 + topic.partitions().len()).sum();
    check_elements(&request, partitions)?;
    let image = engine.image();
    let acks = acks(body.acks);
    let judged = judge(&request, &body, engine, &image);
    let mut waiting = Vec::with_capacity(judged.len());
    for judged in judged {
        let appended = match (judged.batch, acks) {
            (Err(error), _) | (Ok(_), Err(error)) => Err(error),
            (Ok((located, batch)), Ok(acks)) => Ok((located, engine.start_append(located.id, batch, acks))),
        };
        waiting.push(appended);
    }
    Ok(async move {
        let mut results = Vec::with_capacity(waiting.len());
        for appended in waiting {
            results.push(match appended {
                Ok((located, appended)) => {
                    let result = appended.await.map_err(ErrorCode::from);
                    Judgement { result, located: Some(located) }
                }
                Err(error) => Judgement { result: Err(error), located: None },
            });
        }
        answer(&request, &body, &results, context, engine)
    })
}

fn acks(requested: i16) -> Result<Acks, ErrorCode> {
    match requested {
        -1 => Ok(Acks::All),
        0 | 1 => Ok(Acks::Leader),
        _ => Err(ErrorCode::InvalidRequiredAcks),
    }
}

/// One partition of the request, before its batch is handed over.
struct Judged<'a> {
    batch: Result<(Located, Batch<'a>), ErrorCode>,
    is_transactional: bool,
}

/// One partition of the request, after its batch was appended or refused.
struct Judgement {
    result: Result<Appended, ErrorCode>,
    /// Where the batch was handed over to.
    located: Option<Located>,
}

impl Judgement {
    fn is_elsewhere(&self) -> bool {
        self.result == Err(ErrorCode::NotLeaderOrFollower)
    }
}

/// Judges every partition before any batch is handed over, because one transactional batch refuses them all.
fn judge<'a>(
    request: &Request<'a>,
    body: &codec::Request<'a>,
    engine: &impl Engine,
    image: &MetadataImage,
) -> Vec<Judged<'a>> {
    let mut judged = Vec::new();
    for topic in body.topics() {
        judged.extend(topic.partitions().map(|asked| judge_one(request, &topic, &asked, engine, image)));
    }
    refuse_repeated(&mut judged);
    if judged.iter().any(|judged| judged.is_transactional) {
        for judged in &mut judged {
            judged.batch = Err(ErrorCode::TransactionalIdAuthorizationFailed);
        }
    }
    judged
}

fn judge_one<'a>(
    request: &Request<'a>,
    topic: &Topic<'a>,
    asked: &Partition<'a>,
    engine: &impl Engine,
    image: &MetadataImage,
) -> Judged<'a> {
    let Some(records) = &asked.records else {
        return Judged { batch: Err(ErrorCode::InvalidRecord), is_transactional: false };
    };
    let view = BatchView::parse(records.bytes).map(|(view, _)| view);
    let is_transactional = view.as_ref().is_ok_and(BatchView::is_transactional);
    let batch = Located::by_name(engine, image, topic.name, asked.index).and_then(|located| {
        check_batch(view, records.bytes, request.version())?;
        let is_admin = request.header.client_id == Some(ADMIN_CLIENT);
        if is_internal_topic(topic.name) && !is_admin {
            return Err(ErrorCode::InvalidTopicException);
        }
        Ok((located, Batch { bytes: records.bytes, range: records.range.clone() }))
    });
    Judged { batch, is_transactional }
}

/// What the version forbids, and what no version allows. The engine checks the rest when it appends.
fn check_batch(view: Result<BatchView<'_>, BatchError>, bytes: &[u8], version: i16) -> Result<(), ErrorCode> {
    if bytes.is_empty() {
        return Err(ErrorCode::InvalidRecord);
    }
    let view = view?;
    if view.codec() == Codec::Zstd && version < ZSTD_FROM {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    if view.is_control() {
        return Err(ErrorCode::InvalidRecord);
    }
    Ok(())
}

/// Two batches for one partition: neither is appended, since only one of them could be answered.
fn refuse_repeated(judged: &mut [Judged<'_>]) {
    if judged.len() < 2 {
        return;
    }
    let id = |judged: &Judged<'_>| judged.batch.as_ref().ok().map(|(located, _)| located.id);
    let mut ids: Vec<PartitionId> = judged.iter().filter_map(id).collect();
    ids.sort_unstable();
    let repeated: Vec<PartitionId> =
        ids.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    for judged in judged {
        if id(judged).is_some_and(|id| repeated.binary_search(&id).is_ok()) {
            judged.batch = Err(ErrorCode::InvalidRequest);
        }
    }
}

fn answer<E: Engine>(
    request: &Request<'_>,
    body: &codec::Request<'_>,
    judgements: &[Judgement],
    context: &Context<'_>,
    engine: &E,
) -> Answer<E::Slice> {
    if body.acks == 0 {
        let failed = judgements.iter().find_map(|judgement| judgement.result.err());
        return failed.map_or(Answer::NoResponse, |error| Answer::Close(CloseReason::Unacknowledged(error)));
    }
    let version = request.version();
    let hints = version >= HINTS_FROM && judgements.iter().any(Judgement::is_elsewhere);
    let view = hints.then(|| context.view(engine));
    let mut hinted: Vec<LeaderAndEpoch> = Vec::new();
    let mut encoder = codec::ResponseEncoder::new(version, request.correlation_id(), body.topics().len());
    let mut judgements = judgements.iter();
    for topic in body.topics() {
        encoder.topic(topic.name, topic.partitions().len());
        for asked in topic.partitions() {
            let judgement = judgements.next().expect("one for each partition");
            let view = view.as_ref().filter(|_| judgement.is_elsewhere());
            let leader = view.and_then(|view| Some(judgement.located?.leader(view.controller_id())));
            hinted.extend(leader);
            encoder.partition(&describe(asked.index, judgement.result, leader));
        }
    }
    let brokers = view.map(|view| view.brokers()).unwrap_or_default();
    Answer::frame(encoder.finish(0, &endpoints_of(&brokers, &hinted)))
}

fn describe(
    index: i32,
    result: Result<Appended, ErrorCode>,
    current_leader: Option<LeaderAndEpoch>,
) -> PartitionResponse<'static> {
    let error = result.err().unwrap_or(ErrorCode::None);
    let appended = result.ok();
    PartitionResponse {
        index,
        error_code: error.code(),
        base_offset: appended.map_or(-1, |appended| appended.base_offset.get()),
        log_append_time_ms: appended.map_or(-1, |appended| appended.append_time),
        log_start_offset: appended.map_or(-1, |appended| appended.log_start.get()),
        record_errors: &[],
        error_message: None,
        current_leader,
    }
}
