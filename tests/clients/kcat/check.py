"""Produces and reads with kcat, and compares every record."""

import json
import os
import tempfile
import time

from harness import CODECS, SHARDS, Broker, Checks, codecs_on_disk, run, same

MIB = 1 << 20
VALUE_BYTES_MAX = 4 * MIB
RECORDS = 500
# Each codec's topic has a count of its own, by which it is known again on disk, where names are not.
COUNTS = {codec: RECORDS + i for i, codec in enumerate(CODECS)}
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


def keyed_values(label, count=RECORDS):
    """Values that each codec makes smaller, also one at a time: librdkafka sends a batch that grew as it was."""
    return [(f"key-{i % 7}", f"{label} value {i} " + "x" * (200 + i % 90)) for i in range(count)]


def lines(pairs):
    return "".join(f"{key}:{value}\n" for key, value in pairs).encode()


def each_codec(checks, broker):
    for codec, count in COUNTS.items():
        with checks.check(f"{codec}: {count} records with keys and headers"):
            pairs, topic = keyed_values(codec, count), f"codec-{codec}"
            produce(
                broker, topic, "-z", codec, "-K:", "-H", "one=1", "-H", "codec=" + codec, stdin=lines(pairs)
            )
            found = consume(broker, topic, "-o", "beginning")
            wanted = [(i, key, value, ["one", "1", "codec", codec]) for i, (key, value) in enumerate(pairs)]
            same([(m["offset"], m["key"], m["payload"], m["headers"]) for m in found], wanted, topic)
            now_ms = time.time() * 1000
            assert all(abs(now_ms - m["ts"]) < 600_000 for m in found), "timestamps are far from now"


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
        kcat(broker, "-P", "-t", "empty", "-K:", *TIMEOUT, stdin=b"a:\nb:x\n")
        kcat(broker, "-P", "-t", "empty", "-K:", "-Z", *TIMEOUT, stdin=b"c:\n")
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
    topic = "codec-none"
    with checks.check("-Q: earliest, latest and by time"):
        timestamp = consume(broker, topic, "-o", "0", "-c", "1")[0]["ts"]
        for asked, wanted in [(-2, 0), (-1, RECORDS), (timestamp, 0)]:
            output = kcat(broker, "-Q", "-t", f"{topic}:0:{asked}").decode()
            assert output.split() == [topic, "[0]", "offset", str(wanted)], output
    with checks.check("-o: the last record, the last ten, from the middle"):
        same([m["offset"] for m in consume(broker, topic, "-o", "-1")], [RECORDS - 1], "the last record")
        same(
            [m["offset"] for m in consume(broker, topic, "-o", "-10")],
            list(range(RECORDS - 10, RECORDS)),
            "the last ten",
        )
        same(
            [m["offset"] for m in consume(broker, topic, "-o", "250")],
            list(range(250, RECORDS)),
            "from the middle",
        )


def idempotence(checks, broker):
    with checks.check("the idempotent producer"):
        pairs = keyed_values("idempotent", RECORDS // 2)
        produce(
            broker,
            "idempotent",
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
        assert {f"codec-{codec}" for codec in CODECS} <= set(topics), sorted(topics)
        (partition,) = topics["codec-none"]["partitions"]
        assert partition["leader"] == partition["replicas"][0]["id"] == partition["isrs"][0]["id"], partition
    with checks.check("an unknown topic and an unknown partition are errors"):
        output = kcat(broker, "-C", "-t", "nowhere", "-e", "-X", "allow.auto.create.topics=false", fails=True)
        assert b"Unknown topic" in output, output.decode()
        output = kcat(broker, "-P", "-t", "codec-none", "-p", "99", *TIMEOUT, stdin=b"x\n", fails=True)
        assert b"Unknown partition" in output, output.decode()


def on_disk(checks, broker):
    with checks.check("the codec on disk is the codec asked for"):
        found = {}
        for segment in broker.segments():
            batches = codecs_on_disk(segment)
            found[sum(records for _, records in batches)] = sorted({codec for codec, _ in batches})
        for codec, count in COUNTS.items():
            assert found.get(count) == [codec], f"{codec}: the codecs by number of records are {found}"


def main():
    checks = Checks()
    for shards in SHARDS:
        with Broker("--message-max-bytes", str(VALUE_BYTES_MAX), shards=shards) as broker:
            each_codec(checks, broker)
            odd_values(checks, broker)
            offsets(checks, broker)
            idempotence(checks, broker)
            metadata(checks, broker)
            with checks.check("a clean stop"):
                broker.stop()
            on_disk(checks, broker)
    checks.finish()


main()
