"""Produces and reads with kcat, a process for each partition written and for each topic read, and compares every record."""

import concurrent.futures
import json
import os
import tempfile
import time

from harness import CODECS, SHARDS, Broker, Checks, codecs_on_disk, run, same, shards_shared_the_work

MIB = 1 << 20
VALUE_BYTES_MAX = 4 * MIB
TOPICS = {f"topic-{i}": CODECS[i % len(CODECS)] for i in range(10)}
PARTITIONS = 16
# Each topic's partitions have a count of records of their own, by which they are known again on disk, where names are not.
COUNTS = {topic: 20 + i for i, topic in enumerate(TOPICS)}
IDEMPOTENT_RECORDS = 250
# kcat processes at a time.
PROCESSES = 8
# No error of kcat's may take longer than this to appear.
TIMEOUT = ["-X", "message.timeout.ms=15000", "-X", "allow.auto.create.topics=true"]


def kcat(broker, *arguments, **options):
    return run("kcat", "-b", broker.address, *arguments, **options)


def produce(broker, topic, *arguments, stdin):
    kcat(
        broker,
        "-P",
        "-t",
        topic,
        *TIMEOUT,
        "-X",
        f"message.max.bytes={VALUE_BYTES_MAX}",
        *arguments,
        stdin=stdin,
    )


def consume(broker, topic, *arguments):
    output = kcat(
        broker, "-C", "-t", topic, "-e", "-J", "-X", f"fetch.message.max.bytes={VALUE_BYTES_MAX}", *arguments
    )
    return [json.loads(line) for line in output.splitlines()]


def keyed_values(label, count):
    """Values that each codec makes smaller, also one at a time: librdkafka sends a batch that grew as it was."""
    return [(f"key-{i % 7}", f"{label} value {i} " + "x" * (200 + i % 90)) for i in range(count)]


def lines(pairs):
    return "".join(f"{key}:{value}\n" for key, value in pairs).encode()


def values_of(topic, partition):
    return keyed_values(f"{topic}/{partition}", COUNTS[topic])


def headers_of(topic):
    return ["one", "1", "codec", TOPICS[topic]]


def write_partition(broker, topic, partition):
    codec = TOPICS[topic]
    arguments = ["-p", partition, "-z", codec, "-K:", "-H", "one=1", "-H", f"codec={codec}"]
    produce(broker, topic, *arguments, stdin=lines(values_of(topic, partition)))


def compare_topic(broker, topic):
    """How many records were compared."""
    messages = consume(broker, topic, "-o", "beginning")
    now_ms = time.time() * 1000
    assert all(abs(now_ms - m["ts"]) < 600_000 for m in messages), "timestamps are far from now"
    for partition in range(PARTITIONS):
        found = [m for m in messages if m["partition"] == partition]
        wanted = [(i, *pair, headers_of(topic)) for i, pair in enumerate(values_of(topic, partition))]
        found = [(m["offset"], m["key"], m["payload"], m["headers"]) for m in found]
        same(found, wanted, f"{topic} {partition}")
    return len(messages)


def matrix(checks, broker):
    with concurrent.futures.ThreadPoolExecutor(PROCESSES) as pool:
        with checks.check(f"writes {len(TOPICS)} topics of {PARTITIONS} partitions, keys and headers, each codec"):
            written = [
                pool.submit(write_partition, broker, topic, partition)
                for topic in TOPICS
                for partition in range(PARTITIONS)
            ]
            for future in written:
                future.result()
        with checks.check("reads all of it"):
            compared = pool.map(lambda topic: compare_topic(broker, topic), TOPICS)
            print(f"        {sum(compared)} records compared")


def odd_values(checks, broker):
    with checks.check("values of 1 MiB, plain and compressed"):
        with tempfile.NamedTemporaryFile() as file:
            content = os.urandom(MIB // 2).hex().encode()
            file.write(content)
            file.flush()
            for codec in CODECS:
                kcat(
                    broker,
                    "-P",
                    "-t",
                    "large",
                    "-p",
                    0,
                    *TIMEOUT,
                    "-z",
                    codec,
                    "-X",
                    f"message.max.bytes={VALUE_BYTES_MAX}",
                    file.name,
                )
        found = consume(broker, "large", "-o", "beginning")
        same([m["payload"].encode() for m in found], [content] * len(CODECS), "large")
    with checks.check("empty and null values"):
        kcat(broker, "-P", "-t", "empty", "-p", 1, "-K:", *TIMEOUT, stdin=b"a:\nb:x\n")
        kcat(broker, "-P", "-t", "empty", "-p", 1, "-K:", "-Z", *TIMEOUT, stdin=b"c:\n")
        found = consume(broker, "empty", "-o", "beginning")
        same([(m["key"], m["payload"]) for m in found], [("a", ""), ("b", "x"), ("c", None)], "empty")
    with checks.check("a value above message.max.bytes of the broker is refused"):
        with tempfile.NamedTemporaryFile() as file:
            file.write(os.urandom(VALUE_BYTES_MAX + MIB))
            file.flush()
            output = kcat(
                broker,
                "-P",
                "-t",
                "large",
                *TIMEOUT,
                "-X",
                f"message.max.bytes={4 * VALUE_BYTES_MAX}",
                file.name,
                fails=True,
            )
        assert b"Message size too large" in output, output.decode()


def offsets(checks, broker):
    topic, partition = "topic-9", PARTITIONS - 1
    count = COUNTS[topic]
    with checks.check("-Q: earliest, latest and by time"):
        first = consume(broker, topic, "-p", partition, "-o", "0", "-c", "1")[0]
        for asked, wanted in [(-2, 0), (-1, count), (first["ts"], 0)]:
            output = kcat(broker, "-Q", "-t", f"{topic}:{partition}:{asked}").decode()
            assert output.split() == [topic, f"[{partition}]", "offset", str(wanted)], output
    with checks.check("-o: the last record, the last ten, from the middle"):
        for asked, wanted in [("-1", [count - 1]), ("-10", range(count - 10, count)), ("7", range(7, count))]:
            found = consume(broker, topic, "-p", partition, "-o", asked)
            same([m["offset"] for m in found], list(wanted), f"-o {asked}")


def idempotence(checks, broker):
    with checks.check("the idempotent producer"):
        pairs = keyed_values("idempotent", IDEMPOTENT_RECORDS)
        produce(
            broker,
            "idempotent",
            "-p",
            2,
            "-K:",
            "-X",
            "enable.idempotence=true",
            "-X",
            "batch.num.messages=20",
            stdin=lines(pairs),
        )
        found = consume(broker, "idempotent", "-o", "beginning")
        same(
            [(m["offset"], m["key"], m["payload"]) for m in found],
            [(i, *pair) for i, pair in enumerate(pairs)],
            "idempotent",
        )


def metadata(checks, broker):
    with checks.check("-L: broker, topics and partitions"):
        listed = json.loads(kcat(broker, "-L", "-J"))
        assert [node["name"] for node in listed["brokers"]] == [broker.address], listed["brokers"]
        topics = {topic["topic"]: topic for topic in listed["topics"]}
        assert set(topics) == {*TOPICS, "large", "empty", "idempotent"}, sorted(topics)
        for topic in topics.values():
            assert len(topic["partitions"]) == PARTITIONS, topic
            for partition in topic["partitions"]:
                ids = {partition["leader"], partition["replicas"][0]["id"], partition["isrs"][0]["id"]}
                assert ids == {listed["brokers"][0]["id"]}, partition
    with checks.check("an unknown topic and an unknown partition are errors"):
        output = kcat(broker, "-C", "-t", "nowhere", "-e", "-X", "allow.auto.create.topics=false", fails=True)
        assert b"Unknown topic" in output, output.decode()
        output = kcat(broker, "-P", "-t", "topic-0", "-p", "99", *TIMEOUT, stdin=b"x\n", fails=True)
        assert b"Unknown partition" in output, output.decode()


def on_disk(checks, broker):
    with checks.check("the codec on disk is the codec asked for"):
        found = {}
        for segment in broker.segments():
            batches = codecs_on_disk(segment)
            count = sum(records for _, records in batches)
            found.setdefault(count, []).append(sorted({codec for codec, _ in batches}))
        for topic, codec in TOPICS.items():
            same(found.get(COUNTS[topic], []), [[codec]] * PARTITIONS, f"codecs of {topic}")


def main():
    checks = Checks()
    for shards in SHARDS:
        flags = ["--message-max-bytes", str(VALUE_BYTES_MAX), "--num-partitions", str(PARTITIONS)]
        with Broker(*flags, shards=shards) as broker:
            matrix(checks, broker)
            odd_values(checks, broker)
            offsets(checks, broker)
            idempotence(checks, broker)
            metadata(checks, broker)
            shards_shared_the_work(checks, broker)
            with checks.check("a clean stop"):
                broker.stop()
            on_disk(checks, broker)
    checks.finish()


main()
