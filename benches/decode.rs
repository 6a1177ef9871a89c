//! What reading costs before a shard looks at a request: a record batch's header and checksum, and a Produce request's frame
//! from its first byte to the slices of its batches.

#[allow(dead_code, reason = "each bench needs a part of it")]
mod support;

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use corelane::api::{Dispatch, dispatch};
use corelane::wire::produce::Request;
use corelane_shards::format::batch::BatchView;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{RequestHeader, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};

use support::batches::{SIZES, batch};

/// The version of Produce that clients of today speak.
const VERSION: i16 = 12;

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch");
    for (name, records, value_bytes) in SIZES {
        let batch = batch(records, value_bytes);
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(BenchmarkId::new("header", name), |bencher| {
            bencher.iter(|| {
                let view = BatchView::exactly_one(black_box(&batch), batch.len()).expect("a batch");
                assert_eq!(view.record_count() as usize, records);
            });
        });
        group.bench_function(BenchmarkId::new("header and checksum", name), |bencher| {
            bencher.iter(|| {
                let view = BatchView::exactly_one(black_box(&batch), batch.len()).expect("a batch");
                view.check_crc().expect("the right checksum");
            });
        });
    }
}

fn requests(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("produce request");
    let batch = batch(1, 1 << 10);
    for partitions in [1, 16, 256] {
        let frame = produce(&batch, partitions);
        group.throughput(Throughput::Elements(partitions as u64));
        group.bench_function(BenchmarkId::new("frame to batches", partitions), |bencher| {
            bencher.iter(|| assert_eq!(records_bytes(black_box(&frame)), partitions * batch.len()));
        });
    }
}

/// A Produce request's frame without its length.
fn produce(batch: &[u8], partitions: usize) -> Vec<u8> {
    let partition = |index| {
        let data = PartitionProduceData::default().with_index(index);
        data.with_records(Some(Bytes::copy_from_slice(batch)))
    };
    let count = i32::try_from(partitions).expect("few partitions");
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("orders")))
        .with_partition_data((0..count).map(partition).collect());
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic]);
    let header = RequestHeader::default().with_request_api_key(0).with_request_api_version(VERSION);
    let mut frame = BytesMut::new();
    let client = StrBytes::from_static_str("producer-1");
    header.with_client_id(Some(client)).encode(&mut frame, 2).expect("a header");
    request.encode(&mut frame, VERSION).expect("a request");
    frame.to_vec()
}

/// Reads a frame as the broker does, and adds up what its batches are long.
fn records_bytes(frame: &[u8]) -> usize {
    let Dispatch::Serve(request) = dispatch(frame) else { panic!("a request that is served") };
    let request = Request::parse(frame, request.header.body_at, request.version()).expect("a request");
    let partitions = request.topics().flat_map(|topic| topic.partitions());
    partitions.filter_map(|partition| partition.records).map(|records| records.bytes.len()).sum()
}

criterion_group!(benches, batches, requests);
criterion_main!(benches);
