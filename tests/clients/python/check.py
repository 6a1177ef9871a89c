"""Both Python libraries write to every partition, both read all of it, and a plain checker compares every record."""

import json
import time

import confluent_kafka as confluent
import confluent_kafka.admin as confluent_admin
import kafka
import kafka.admin

from harness import CODECS, SHARDS, Broker, Checks, codecs_on_disk, same, shards_shared_the_work

TOPICS = [f"topic-{i}" for i in range(10)]
PARTITIONS = 16
# For each library, topic and partition.
RECORDS = 20
MIB = 1 << 20
VALUE_BYTES_MAX = 4 * MIB
BASE_MS = 1_700_000_000_000
WAIT_SECONDS = 30
# Long enough for the records of a partition to share batches.
LINGER_MS = 500


def codec_of(library, topic):
    """Each library writes each codec to some topics, and not the same as the other."""
    return CODECS[(TOPICS.index(topic) + (2 if library == "kafka-python" else 0)) % len(CODECS)]


def records(library, topic, partition):
    """(timestamp, key, value, headers) of what `library` writes to a partition.

    Compression makes each of them smaller, also alone in its batch: a library sends a batch that grew as it was.
    """
    made = []
    for i in range(RECORDS):
        key = None if i % 5 == 4 else f"{topic}/{partition}/{i % 3}".encode()
        value = (
            None
            if i % 10 == 3
            else b"" if i % 10 == 7 else f"{library} {topic} {partition} {i} ".encode() * (i + 8)
        )
        headers = (
            [("library", library.encode() * 20), ("empty", b""), ("library", str(i).encode())] if i % 2 else []
        )
        made.append((BASE_MS + i * 1000, key, value, headers))
    return made


def partitions():
    return [(topic, partition) for topic in TOPICS for partition in range(PARTITIONS)]


# ---- writing


def write_with_confluent(broker):
    """With all producers at once, whose connections are many enough for every shard to have some."""
    failures = []
    report = lambda error, _: failures.append(error) if error else None
    settings = {"bootstrap.servers": broker.address, "linger.ms": LINGER_MS}
    producers = {codec: confluent.Producer({**settings, "compression.type": codec}) for codec in CODECS}
    for topic, partition in partitions():
        producer = producers[codec_of("confluent", topic)]
        for timestamp, key, value, headers in records("confluent", topic, partition):
            producer.produce(
                topic, value, key, partition, timestamp=timestamp, headers=headers, on_delivery=report
            )
    for codec, producer in producers.items():
        assert producer.flush(WAIT_SECONDS) == 0, f"{codec}: not all was delivered"
    assert not failures, failures[:3]


def write_with_kafka_python(broker):
    for codec in CODECS:
        producer = kafka.KafkaProducer(
            bootstrap_servers=broker.address,
            compression_type=None if codec == "none" else codec,
            linger_ms=LINGER_MS,
        )
        sent = []
        for topic, partition in partitions():
            if codec_of("kafka-python", topic) == codec:
                for timestamp, key, value, headers in records("kafka-python", topic, partition):
                    sent.append(producer.send(topic, value, key, headers, partition, timestamp))
        for future in sent:
            future.get(WAIT_SECONDS)
        producer.close()


# ---- reading


def read_with_confluent(broker, wanted):
    """The records by (topic, partition), as (offset, timestamp, key, value, headers); `wanted` counts them."""
    consumer = confluent.Consumer(
        {"bootstrap.servers": broker.address, "group.id": "unused", "enable.auto.commit": False}
    )
    found = {at: [] for at in wanted}
    consumer.assign([confluent.TopicPartition(topic, partition, 0) for topic, partition in wanted])
    deadline = time.monotonic() + WAIT_SECONDS
    while sum(map(len, found.values())) < sum(wanted.values()) and time.monotonic() < deadline:
        for message in consumer.consume(1000, 0.2):
            assert message.error() is None, message.error()
            found[message.topic(), message.partition()].append(
                (
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    message.headers() or [],
                )
            )
    consumer.close()
    return found


def read_with_kafka_python(broker, wanted):
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=broker.address,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        group_id=None,
    )
    found = {at: [] for at in wanted}
    consumer.assign([kafka.TopicPartition(*at) for at in wanted])
    deadline = time.monotonic() + WAIT_SECONDS
    while sum(map(len, found.values())) < sum(wanted.values()) and time.monotonic() < deadline:
        for at, messages in consumer.poll(200, max_records=2000).items():
            found[at.topic, at.partition] += [
                (m.offset, m.timestamp, m.key, m.value, list(m.headers)) for m in messages
            ]
    consumer.close()
    return found


READERS = {"confluent": read_with_confluent, "kafka-python": read_with_kafka_python}


# ---- checks


def create_topics(checks, broker):
    with checks.check("both admin clients create topics"):
        admin = confluent_admin.AdminClient({"bootstrap.servers": broker.address})
        config = {"max.message.bytes": str(VALUE_BYTES_MAX)}
        asked = [confluent_admin.NewTopic(topic, PARTITIONS, 1, config=config) for topic in TOPICS[:5]]
        for future in admin.create_topics(asked).values():
            future.result(WAIT_SECONDS)
        other = kafka.KafkaAdminClient(bootstrap_servers=broker.address)
        other.create_topics(
            [kafka.admin.NewTopic(topic, PARTITIONS, 1, topic_configs=config) for topic in TOPICS[5:]]
        )
        other.close()
        try:
            admin.create_topics(asked[:1])[TOPICS[0]].result(WAIT_SECONDS)
        except confluent.KafkaException as error:
            assert error.args[0].code() == confluent.KafkaError.TOPIC_ALREADY_EXISTS, error
        else:
            raise AssertionError("a topic was created twice")
    with checks.check("metadata: topics, partitions and leaders"):
        found = confluent_admin.AdminClient({"bootstrap.servers": broker.address}).list_topics(
            timeout=WAIT_SECONDS
        )
        assert {name: len(topic.partitions) for name, topic in found.topics.items()} == dict.fromkeys(
            TOPICS, PARTITIONS
        ), found.topics
        assert all(
            p.leader in found.brokers for topic in found.topics.values() for p in topic.partitions.values()
        )


def exchange(checks, broker):
    with checks.check("confluent-kafka writes"):
        write_with_confluent(broker)
    with checks.check("kafka-python writes"):
        write_with_kafka_python(broker)
    for name, read in READERS.items():
        with checks.check(f"{name} reads what both wrote"):
            found = read(broker, dict.fromkeys(partitions(), 2 * RECORDS))
            compared = 0
            for at in partitions():
                wanted = records("confluent", *at) + records("kafka-python", *at)
                same(found[at], [(offset, *record) for offset, record in enumerate(wanted)], str(at))
                compared += len(wanted)
            print(f"        {compared} records compared")


def large_values(checks, broker):
    values = [bytes([65 + i]) * MIB for i in range(len(CODECS))]
    with checks.check("values of 1 MiB with each codec, read by both"):
        for codec, value in zip(CODECS, values):
            producer = confluent.Producer(
                {
                    "bootstrap.servers": broker.address,
                    "compression.type": codec,
                    "message.max.bytes": VALUE_BYTES_MAX,
                }
            )
            producer.produce("large", value, partition=0)
            assert producer.flush(WAIT_SECONDS) == 0
        for codec, value in zip(CODECS, values):
            codec = None if codec == "none" else codec
            producer = kafka.KafkaProducer(
                bootstrap_servers=broker.address, compression_type=codec, max_request_size=VALUE_BYTES_MAX
            )
            producer.send("large", value, partition=0).get(WAIT_SECONDS)
            producer.close()
        for name, read in READERS.items():
            found = read(broker, {("large", 0): 2 * len(values)})["large", 0]
            same([value for _, _, _, value, _ in found], values * 2, f"large values read by {name}")


def offsets(checks, broker):
    # Both libraries wrote the same timestamps, one after the other: the first record at or after a time is confluent's.
    times = [
        (BASE_MS - 1, 0),
        (BASE_MS + 5000, 5),
        (BASE_MS + 5001, 6),
        (BASE_MS + (RECORDS + 9) * 1000, None),
    ]
    with checks.check("kafka-python: beginning, end and offsets for times"):
        consumer = kafka.KafkaConsumer(bootstrap_servers=broker.address, group_id=None)
        asked = [kafka.TopicPartition(*at) for at in partitions()]
        assert consumer.beginning_offsets(asked) == dict.fromkeys(asked, 0)
        assert consumer.end_offsets(asked) == dict.fromkeys(asked, 2 * RECORDS)
        for timestamp, wanted in times:
            for at, found in consumer.offsets_for_times(dict.fromkeys(asked, timestamp)).items():
                assert (found.offset if found else None) == wanted, (at, timestamp, found)
        consumer.close()
    with checks.check("confluent-kafka: watermarks and offsets for times"):
        consumer = confluent.Consumer({"bootstrap.servers": broker.address, "group.id": "unused"})
        for topic, partition in partitions():
            found = consumer.get_watermark_offsets(confluent.TopicPartition(topic, partition), WAIT_SECONDS)
            assert found == (0, 2 * RECORDS), (topic, partition, found)
        for timestamp, wanted in times:
            asked = [
                confluent.TopicPartition(topic, partition, timestamp) for topic, partition in partitions()
            ]
            for found in consumer.offsets_for_times(asked, WAIT_SECONDS):
                assert found.error is None, found
                assert found.offset == (confluent.OFFSET_END if wanted is None else wanted), (
                    timestamp,
                    found,
                )
        consumer.close()


def administer(checks, broker):
    admin = confluent_admin.AdminClient({"bootstrap.servers": broker.address})
    other = kafka.KafkaAdminClient(bootstrap_servers=broker.address)
    with checks.check("both admin clients describe a topic's settings"):
        resource = confluent_admin.ConfigResource(confluent_admin.ResourceType.TOPIC, TOPICS[0])
        (found,) = (future.result(WAIT_SECONDS) for future in admin.describe_configs([resource]).values())
        assert found["max.message.bytes"].value == str(VALUE_BYTES_MAX), found
        described = other.describe_configs(
            [kafka.admin.ConfigResource(kafka.admin.ConfigResourceType.TOPIC, TOPICS[9])]
        )
        assert "max.message.bytes" in str(described) and str(VALUE_BYTES_MAX) in str(described), described
    with checks.check("both admin clients delete topics"):
        admin.delete_topics([TOPICS[0]])[TOPICS[0]].result(WAIT_SECONDS)
        other.delete_topics([TOPICS[9]])
        left = set(admin.list_topics(timeout=WAIT_SECONDS).topics)
        assert left == {*TOPICS[1:9], "large"}, left
    other.close()


def on_disk(checks, broker):
    with checks.check("the codecs on disk are those asked for"):
        found = {}
        for segment in broker.segments():
            partition = found.setdefault(segment.parent.parent.name, {})
            for codec, count in codecs_on_disk(segment):
                partition[codec] = partition.get(codec, 0) + count
        counts = sorted(json.dumps(codecs, sort_keys=True) for codecs in found.values())
        wanted = [
            {codec_of(library, topic): RECORDS * PARTITIONS for library in ("confluent", "kafka-python")}
            for topic in TOPICS[1:9]
        ]
        wanted.append(dict.fromkeys(CODECS, 2))
        assert counts == sorted(json.dumps(codecs, sort_keys=True) for codecs in wanted), counts


def main():
    checks = Checks()
    for shards in SHARDS:
        with Broker("--message-max-bytes", str(VALUE_BYTES_MAX), shards=shards) as broker:
            create_topics(checks, broker)
            exchange(checks, broker)
            offsets(checks, broker)
            large_values(checks, broker)
            administer(checks, broker)
            shards_shared_the_work(checks, broker)
            with checks.check("a clean stop"):
                broker.stop()
            on_disk(checks, broker)
    checks.finish()


main()
