use proptest::prelude::*;

use super::fixture::{self, Header, with_body};
use super::*;

/// Batches made by kafka-python, see testdata/README.md.
const FOREIGN: [(&str, &[u8]); 7] = [
    ("none", include_bytes!("../testdata/none.batch")),
    ("gzip", include_bytes!("../testdata/gzip.batch")),
    ("snappy", include_bytes!("../testdata/snappy.batch")),
    ("lz4", include_bytes!("../testdata/lz4.batch")),
    ("zstd", include_bytes!("../testdata/zstd.batch")),
    ("idempotent", include_bytes!("../testdata/idempotent.batch")),
    ("transactional", include_bytes!("../testdata/transactional.batch")),
];

const NO_LIMIT: usize = usize::MAX;

fn foreign(name: &str) -> &'static [u8] {
    FOREIGN.iter().find(|(known, _)| *known == name).expect("a known file").1
}

fn parsed(bytes: &[u8]) -> BatchView<'_> {
    let (batch, length) = BatchView::parse(bytes).expect("a valid batch");
    assert_eq!(length, bytes.len());
    batch
}

/// A valid batch with `bytes` written over it at `at`, and its checksum made right again.
fn patched<const N: usize>(at: usize, bytes: [u8; N]) -> Vec<u8> {
    let header = Header::idempotent(ProducerId(7), ProducerEpoch(1), Sequence(0));
    let mut batch = fixture::batch(&header, &["a", "b", "c"]);
    set_field(&mut batch, at, bytes);
    let crc = crc32c(&batch[ATTRIBUTES..]);
    set_field(&mut batch, CRC, crc.to_be_bytes());
    batch
}

fn parse_error<const N: usize>(at: usize, bytes: [u8; N]) -> Error {
    BatchView::parse(&patched(at, bytes)).expect_err("a header that cannot be right")
}

fn produce_error<const N: usize>(at: usize, bytes: [u8; N]) -> Error {
    let batch = patched(at, bytes);
    parsed(&batch);
    BatchView::exactly_one(&batch, NO_LIMIT).expect_err("a header that no producer may send")
}

#[test]
fn batches_of_a_foreign_client_are_read_as_it_wrote_them() {
    for (name, bytes) in FOREIGN {
        let batch = BatchView::exactly_one(bytes, NO_LIMIT).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(batch.check_crc(), Ok(()), "{name}");
        assert_eq!((batch.bytes(), batch.body().len()), (bytes, bytes.len() - 61), "{name}");
        assert_eq!((batch.base_offset(), batch.leader_epoch().get() <= 0), (Offset(0), true), "{name}");
        assert_eq!(batch.timestamp_type(), TimestampType::CreateTime, "{name}");
        assert_eq!(batch.base_timestamp(), Timestamp(1_700_000_000_000), "{name}");
        assert!(!batch.is_control() && !batch.has_delete_horizon(), "{name}");
    }
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"].map(|name| {
        let batch = parsed(foreign(name));
        assert_eq!((batch.record_count(), batch.last_offset()), (10, Offset(9)), "{name}");
        assert_eq!(batch.max_timestamp(), Timestamp(1_700_000_000_063), "{name}");
        assert!(!batch.has_producer() && !batch.is_transactional(), "{name}");
        assert_eq!((batch.base_sequence(), batch.last_sequence()), (Sequence(-1), Sequence(-1)), "{name}");
        batch.codec()
    });
    assert_eq!(codecs, [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd]);
}

#[test]
fn producer_fields_of_a_foreign_client_are_read_as_it_wrote_them() {
    let batch = parsed(foreign("idempotent"));
    assert_eq!((batch.producer_id(), batch.producer_epoch()), (ProducerId(4711), ProducerEpoch(3)));
    assert_eq!((batch.base_sequence(), batch.last_sequence()), (Sequence(i32::MAX - 2), Sequence(1)));
    assert!(batch.has_producer() && !batch.is_transactional());

    let batch = parsed(foreign("transactional"));
    assert_eq!((batch.producer_id(), batch.codec()), (ProducerId(4712), Codec::Zstd));
    assert_eq!((batch.base_sequence(), batch.last_sequence()), (Sequence(17), Sequence(19)));
    assert!(batch.is_transactional());
}

#[test]
fn our_own_batches_are_valid() {
    let header = Header::idempotent(ProducerId(9), ProducerEpoch(2), Sequence(40));
    let bytes = fixture::batch(&header, &[&b"one"[..], b"", &[7; 300]]);
    let batch = BatchView::exactly_one(&bytes, bytes.len()).expect("a valid batch");
    assert_eq!(batch.check_crc(), Ok(()));
    assert_eq!((batch.record_count(), batch.last_offset()), (3, Offset(2)));
    assert_eq!((batch.base_sequence(), batch.last_sequence()), (Sequence(40), Sequence(42)));
    assert_eq!(batch.max_timestamp(), Timestamp(header.base_timestamp.get() + 2));
    assert_eq!(
        &batch.body()[..10],
        [18, 0, 0, 0, 1, 6, b'o', b'n', b'e', 0],
        "Kafka's DefaultRecord, by hand"
    );
}

#[test]
fn lengths_must_leave_room_for_a_header_and_not_exceed_the_bytes() {
    assert_eq!(parse_error(LENGTH, 48i32.to_be_bytes()), Error::Length(48));
    assert_eq!(parse_error(LENGTH, (-1i32).to_be_bytes()), Error::Length(-1));
    assert_eq!(parse_error(LENGTH, i32::MIN.to_be_bytes()), Error::Length(i32::MIN));
    let available = patched::<0>(0, []).len();
    let needed = (1 << 31) - 1 + 12;
    assert_eq!(parse_error(LENGTH, i32::MAX.to_be_bytes()), Error::Truncated { needed, available });
    let whole = fixture::batch(&Header::default(), &["x"]);
    for cut in 0..whole.len() {
        let needed = if cut < 17 { HEADER_BYTES } else { whole.len() };
        assert_eq!(BatchView::parse(&whole[..cut]).err(), Some(Error::Truncated { needed, available: cut }));
    }
}

#[test]
fn other_versions_have_their_own_error() {
    for magic in [0, 1, 3, 255] {
        assert_eq!(parse_error(MAGIC_AT, [magic]), Error::Magic(magic));
    }
    // A message of magic 0 is shorter than a header of magic 2; it is still not taken for a cut batch.
    let mut old = [0; 26];
    old[LENGTH..LENGTH + 4].copy_from_slice(&14i32.to_be_bytes());
    assert_eq!(BatchView::parse(&old).err(), Some(Error::Magic(0)));
}

#[test]
fn attributes_must_have_a_meaning() {
    for codec in [5, 6, 7] {
        assert_eq!(parse_error(ATTRIBUTES, [0, codec]), Error::Codec(codec));
    }
    for bit in 7..16 {
        assert_eq!(parse_error(ATTRIBUTES, (1u16 << bit).to_be_bytes()), Error::Attributes(1 << bit));
    }
    assert_eq!(produce_error(ATTRIBUTES, CONTROL.to_be_bytes()), Error::BrokerAttributes(CONTROL));
    assert_eq!(
        produce_error(ATTRIBUTES, DELETE_HORIZON.to_be_bytes()),
        Error::BrokerAttributes(DELETE_HORIZON)
    );
    assert_eq!(produce_error(ATTRIBUTES, LOG_APPEND_TIME.to_be_bytes()), Error::LogAppendTime);
}

#[test]
fn offsets_must_be_a_range() {
    let negative = Error::Offsets { base_offset: -1, last_offset_delta: 2 };
    assert_eq!(parse_error(BASE_OFFSET, (-1i64).to_be_bytes()), negative);
    let beyond = Error::Offsets { base_offset: i64::MAX - 1, last_offset_delta: 2 };
    assert_eq!(parse_error(BASE_OFFSET, (i64::MAX - 1).to_be_bytes()), beyond);
    let backwards = Error::Offsets { base_offset: 0, last_offset_delta: -1 };
    assert_eq!(parse_error(LAST_OFFSET_DELTA, (-1i32).to_be_bytes()), backwards);
    assert_eq!(produce_error(BASE_OFFSET, 5i64.to_be_bytes()), Error::BaseOffsetNotZero(5));
}

#[test]
fn the_record_count_must_fit_offsets_and_body() {
    let bytes = patched::<0>(0, []);
    let batch = parsed(&bytes);
    let (last_offset_delta, body_bytes) = (batch.last_offset_delta(), batch.body().len());
    for count in [-1, 0, 4, i32::MAX, i32::MIN] {
        let expected = Error::RecordCount { count, last_offset_delta, body_bytes };
        assert_eq!(parse_error(RECORD_COUNT, count.to_be_bytes()), expected);
    }
    // Compaction leaves fewer records than offsets, and that is legal in a log only.
    assert_eq!(produce_error(RECORD_COUNT, 2i32.to_be_bytes()), Error::Gaps { count: 2, last_offset_delta });
    let crowded = with_body(&Header::default(), Codec::None, 3, &[0; 20]);
    assert!(matches!(BatchView::parse(&crowded), Err(Error::RecordCount { body_bytes: 20, .. })));
    let nothing_compressed = with_body(&Header::default(), Codec::Zstd, 3, &[]);
    assert!(matches!(BatchView::parse(&nothing_compressed), Err(Error::RecordCount { body_bytes: 0, .. })));
}

#[test]
fn a_batch_emptied_by_compaction_is_legal_in_a_log_only() {
    let mut bytes = with_body(&Header::default(), Codec::None, 1, &[]);
    set_field(&mut bytes, LAST_OFFSET_DELTA, 9i32.to_be_bytes());
    set_field(&mut bytes, RECORD_COUNT, 0i32.to_be_bytes());
    let batch = parsed(&bytes);
    assert_eq!(
        (batch.record_count(), batch.last_offset(), batch.bytes().len()),
        (0, Offset(9), HEADER_BYTES)
    );
    let gaps = Error::Gaps { count: 0, last_offset_delta: 9 };
    assert_eq!(BatchView::exactly_one(&bytes, NO_LIMIT).err(), Some(gaps));
}

#[test]
fn producer_fields_must_go_together() {
    assert!(matches!(
        parse_error(PRODUCER_EPOCH, (-1i16).to_be_bytes()),
        Error::Producer { id: 7, epoch: -1, .. }
    ));
    let sequence = Error::Sequence { producer_id: 7, sequence: -1 };
    assert_eq!(produce_error(BASE_SEQUENCE, (-1i32).to_be_bytes()), sequence);
    // Without a producer a sequence means nothing, and a client that sends 0 there is served.
    let stray = patched(PRODUCER_ID, (-1i64).to_be_bytes());
    assert!(BatchView::exactly_one(&stray, NO_LIMIT).is_ok_and(|batch| !batch.has_producer()));
    let orphan = Header { attributes: TRANSACTIONAL, ..Header::default() };
    let orphan = fixture::batch(&orphan, &["x"]);
    assert!(matches!(BatchView::parse(&orphan), Err(Error::Producer { id: -1, .. })));
}

#[test]
fn a_producer_sends_exactly_one_batch_within_the_limit() {
    let one = fixture::batch(&Header::default(), &["x"]);
    assert_eq!(BatchView::exactly_one(&[], NO_LIMIT).err(), Some(Error::NoBatch));
    assert!(BatchView::exactly_one(&one, one.len()).is_ok());
    let too_large = Error::TooLarge { bytes: one.len(), bytes_max: one.len() - 1 };
    assert_eq!(BatchView::exactly_one(&one, one.len() - 1).err(), Some(too_large));
    let two = [&one[..], &one].concat();
    let not_one = Error::NotOneBatch { trailing_bytes: one.len() };
    assert_eq!(BatchView::exactly_one(&two, NO_LIMIT).err(), Some(not_one));
}

#[test]
fn iteration_reports_positions_and_what_is_left_over() {
    let batches: Vec<&[u8]> = FOREIGN.iter().map(|(_, bytes)| *bytes).collect();
    let log = batches.concat();
    let mut position = 0;
    let mut iterator = Batches::new(&log);
    for bytes in &batches {
        let (at, batch) = iterator.next().expect("one more").expect("a valid batch");
        assert_eq!((at, batch.bytes()), (position, *bytes));
        position += bytes.len();
    }
    assert!(iterator.next().is_none());
    assert!(iterator.rest().is_empty());

    let last = batches[batches.len() - 1];
    let mut iterator = Batches::new(&log[..log.len() - 1]);
    assert_eq!(iterator.by_ref().filter(Result::is_ok).count(), batches.len() - 1);
    assert_eq!(iterator.rest(), &last[..last.len() - 1]);
    let error = Batches::new(&log[..log.len() - 1]).last().expect("an item").expect_err("a cut batch");
    assert!(error.is_truncated());

    let damaged = [batches[0], &[0xff; 100]].concat();
    let mut iterator = Batches::new(&damaged);
    assert!(iterator.next().is_some_and(|first| first.is_ok()));
    assert_eq!(iterator.next(), Some(Err(Error::Magic(0xff))));
    assert_eq!((iterator.next(), iterator.position()), (None, batches[0].len()));
}

#[test]
fn the_checksum_notices_every_flipped_bit_that_it_covers() {
    let mut flips = 0;
    for (name, bytes) in FOREIGN {
        let mut bytes = bytes.to_vec();
        for bit in CRC * 8..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let noticed = BatchView::parse(&bytes).and_then(|(batch, _)| batch.check_crc()).is_err();
            assert!(noticed, "{name}: bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
            flips += 1;
        }
    }
    assert!(flips > 10_000, "only {flips} bits flipped");
}

#[test]
fn no_single_changed_byte_makes_a_view_panic() {
    for (_, original) in FOREIGN {
        let mut bytes = original.to_vec();
        // Behind the header only the checksum looks at the bytes, and every bit of them is flipped above.
        for at in 0..HEADER_BYTES {
            for value in 0..=255 {
                bytes[at] = value;
                exercise(&bytes);
            }
            bytes[at] = original[at];
        }
    }
}

/// Calls all that a view offers; what it returns does not matter here.
fn exercise(bytes: &[u8]) {
    let _ = BatchView::exactly_one(bytes, 1000);
    for batch in Batches::new(bytes) {
        let Ok((_, batch)) = batch else { continue };
        let _ = (batch.check_crc(), batch.last_offset(), batch.last_sequence(), batch.body(), batch.codec());
        assert!(batch.base_offset() <= batch.last_offset());
        assert!(batch.record_count() >= 0);
        assert!(!format!("{batch:?}").is_empty());
    }
}

fn any_batch() -> impl Strategy<Value = Vec<u8>> {
    let values = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..20);
    let attributes = prop::sample::select(vec![0, TRANSACTIONAL, LOG_APPEND_TIME, CONTROL | TRANSACTIONAL]);
    (values, attributes, 0..i64::MAX, any::<u32>()).prop_map(|(values, attributes, id, time)| {
        let idempotent = Header::idempotent(ProducerId(id), ProducerEpoch(3), Sequence(i32::MAX - 3));
        fixture::batch(&Header { attributes, base_timestamp: Timestamp(time.into()), ..idempotent }, &values)
    })
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_make_a_view_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..300), claim in 0i32..400) {
        exercise(&bytes);
        if bytes.len() > MAGIC_AT {
            bytes[MAGIC_AT] = MAGIC;
            set_field(&mut bytes, LENGTH, claim.to_be_bytes());
            exercise(&bytes);
        }
    }

    #[test]
    fn assigning_a_place_keeps_all_else(original in any_batch(), base in 0..i64::MAX - 100, epoch in any::<i32>()) {
        let mut bytes = original.clone();
        assign(&mut bytes, Offset(base), LeaderEpoch(epoch));
        let batch = parsed(&bytes);
        prop_assert_eq!((batch.base_offset(), batch.leader_epoch()), (Offset(base), LeaderEpoch(epoch)));
        prop_assert_eq!(batch.check_crc(), Ok(()));
        prop_assert_eq!(&bytes[8..12], &original[8..12]);
        prop_assert_eq!(&bytes[16..], &original[16..]);
    }

    #[test]
    fn the_append_time_gets_the_checksum_of_a_full_pass(original in any_batch(), now in any::<i64>()) {
        let mut bytes = original.clone();
        set_log_append_time(&mut bytes, Timestamp(now));
        let batch = parsed(&bytes);
        prop_assert_eq!(batch.timestamp_type(), TimestampType::LogAppendTime);
        prop_assert_eq!(batch.max_timestamp(), Timestamp(now));
        prop_assert_eq!(batch.stored_crc(), crc32c(&bytes[ATTRIBUTES..]));
        for kept in [0..CRC, LAST_OFFSET_DELTA..MAX_TIMESTAMP, PRODUCER_ID..bytes.len()] {
            prop_assert_eq!(&bytes[kept.clone()], &original[kept]);
        }
    }

    #[test]
    fn the_append_time_does_not_hide_damage(mut bytes in any_batch(), at in any::<prop::sample::Index>(), now in any::<i64>()) {
        let damaged = HEADER_BYTES + at.index(bytes.len() - HEADER_BYTES);
        bytes[damaged] ^= 0x10;
        set_log_append_time(&mut bytes, Timestamp(now));
        let batch = parsed(&bytes);
        prop_assert!(batch.check_crc().is_err());
    }
}
