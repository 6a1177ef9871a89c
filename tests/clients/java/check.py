"""Kafka's own clients and tools, and its dump tool on closed segments.

The Java producer and consumer exchange the whole matrix over every count of shards; the console clients, a process for each
step, run with every codec over the largest count and with one codec over the others.
"""

import base64
import os
import pathlib
import re
import uuid

from harness import CODECS, SHARDS, Broker, Checks, codecs_on_disk, run, same, shards_shared_the_work

TOOLS = "org.apache.kafka.tools"
RECORDS = 500
LOAD_RECORDS = 100_000
LOAD_BYTES = 100
# Small, so that the dump tool finds closed segments. The largest batch must fit, or the broker refuses the settings.
SEGMENT_BYTES = 1 << 20
BATCH_BYTES_MAX = SEGMENT_BYTES // 2
MATRIX = {f"matrix-{i}": CODECS[i % len(CODECS)] for i in range(10)}
MATRIX_PARTITIONS = 16
# For each partition.
MATRIX_RECORDS = 20
MIB = 1 << 20
VALUE_BYTES_MAX = 4 * MIB
BASE_MS = 1_700_000_000_000


def java(program, *arguments, **options):
    # One small heap and no second compiler: most of a tool's time is its start.
    command = [
        "java",
        "-Xmx256m",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-cp",
        os.environ["KAFKA_JARS"] + "/*",
    ]
    return run(*command, program, *arguments, **options)


def tool(name, *arguments, **options):
    return java(f"{TOOLS}.{name}", *arguments, **options)


def client(broker, name, *arguments, **options):
    return tool(name, "--bootstrap-server", broker.address, *arguments, **options).decode()


def topics(checks, broker):
    with checks.check("TopicCommand creates, lists and describes"):
        settings = [
            "--config",
            f"segment.bytes={SEGMENT_BYTES}",
            "--config",
            f"max.message.bytes={BATCH_BYTES_MAX}",
        ]
        client(broker, "TopicCommand", "--create", "--topic", "load", "--partitions", "4", *settings)
        client(broker, "TopicCommand", "--create", "--topic", "spare", "--partitions", "16")
        assert client(broker, "TopicCommand", "--list").split() == ["load", "spare"]
        described = client(broker, "TopicCommand", "--describe", "--topic", "load")
        found = re.search(
            r"TopicId: (\S+)\s+PartitionCount: 4\s+ReplicationFactor: 1\s+Configs: (\S*)", described
        )
        assert found and f"segment.bytes={SEGMENT_BYTES}" in found[2], described
        leaders = re.findall(r"Partition: (\d+)\s+Leader: (\d+)", described)
        assert [partition for partition, _ in leaders] == ["0", "1", "2", "3"], described
    with checks.check("TopicCommand deletes"):
        client(broker, "TopicCommand", "--delete", "--topic", "spare")
        assert client(broker, "TopicCommand", "--list").split() == ["load"]


def matrix_records():
    """(topic, partition, codec, timestamp, key, value, headers) of what the Java producer writes, in its order."""
    made = []
    for topic, codec in MATRIX.items():
        for partition in range(MATRIX_PARTITIONS):
            for i in range(MATRIX_RECORDS):
                key = None if i % 5 == 4 else f"{topic}/{partition}/{i % 3}".encode()
                text = f"{topic} {partition} {i} ".encode() * (i + 1)
                value = None if i % 10 == 3 else b"" if i % 10 == 6 else text
                headers = [("topic", topic.encode()), ("none", None), ("empty", b"")] if i % 2 else []
                made.append((topic, partition, codec, BASE_MS + i, key, value, headers))
    for i, codec in enumerate(CODECS):
        made.append(("large", i, codec, BASE_MS, codec.encode(), bytes([65 + i]) * MIB, []))
    return made


def field(content):
    return "-" if content is None else base64.b64encode(content).decode()


def line(topic, partition, third, timestamp, key, value, headers):
    """A record as Exchange.java reads and prints it."""
    headers = ",".join(f"{name}={field(content)}" for name, content in headers)
    return "\t".join([topic, str(partition), str(third), str(timestamp), field(key), field(value), headers])


def matrix(checks, broker):
    topics = len(MATRIX)
    with checks.check(f"Java producer and consumer: {topics} topics of {MATRIX_PARTITIONS}, 1 MiB values"):
        made = matrix_records()
        program = pathlib.Path(__file__).with_name("Exchange.java")
        stdin = "".join(line(*record) + "\n" for record in made).encode()
        output = java(program, broker.address, MATRIX_PARTITIONS, stdin=stdin, seconds=120).decode()
        found, wanted = {}, {}
        for printed in output.splitlines():
            found.setdefault(tuple(printed.split("\t", 2)[:2]), []).append(printed)
        for topic, partition, _, *rest in made:
            there = wanted.setdefault((topic, str(partition)), [])
            there.append(line(topic, partition, len(there), *rest))
        same(sorted(found), sorted(wanted), "partitions with records")
        for at, lines in wanted.items():
            same(found[at], lines, " ".join(at))
        print(f"        {len(made)} records compared")


def console(checks, broker, codecs):
    for codec in codecs:
        with checks.check(f"console producer and consumer, {codec}: {RECORDS} records with keys and headers"):
            topic = f"console-{codec}"
            wanted = [
                f"one:1,codec:{codec}\tkey-{i % 7}\tvalue {i} of {codec} {'x' * (i % 90)}"
                for i in range(RECORDS)
            ]
            properties = ["parse.key=true", "parse.headers=true"]
            arguments = [part for name in properties for part in ("--reader-property", name)]
            client(
                broker,
                "ConsoleProducer",
                "--topic",
                topic,
                "--compression-codec",
                codec,
                *arguments,
                stdin=("\n".join(wanted) + "\n").encode(),
            )
            properties = ["print.key=true", "print.headers=true", "print.offset=true", "print.partition=true"]
            arguments = [part for name in properties for part in ("--formatter-property", name)]
            output = client(
                broker,
                "consumer.ConsoleConsumer",
                "--topic",
                topic,
                "--partition",
                0,
                "--offset",
                "earliest",
                "--max-messages",
                RECORDS,
                "--timeout-ms",
                20000,
                *arguments,
            )
            same(
                output.splitlines(),
                [f"Partition:0\tOffset:{i}\t{line}" for i, line in enumerate(wanted)],
                topic,
            )
    with checks.check("console consumer from an offset"):
        output = client(
            broker,
            "consumer.ConsoleConsumer",
            "--topic",
            f"console-{codecs[0]}",
            "--partition",
            0,
            "--offset",
            RECORDS - 3,
            "--max-messages",
            3,
            "--timeout-ms",
            20000,
        )
        same(
            output.splitlines(),
            [f"value {i} of {codecs[0]} {'x' * (i % 90)}" for i in range(RECORDS - 3, RECORDS)],
            "from an offset",
        )


def load(checks, broker):
    with checks.check(f"ProducerPerformance: {LOAD_RECORDS} records, idempotent, acks=all"):
        properties = [f"bootstrap.servers={broker.address}", "acks=all"]
        arguments = [
            "--topic",
            "load",
            "--num-records",
            LOAD_RECORDS,
            "--record-size",
            LOAD_BYTES,
            "--throughput",
            -1,
        ]
        output = tool("ProducerPerformance", *arguments, "--producer-props", *properties).decode()
        assert f"{LOAD_RECORDS} records sent" in output, output
        print("        " + output.splitlines()[-1])
    with checks.check("GetOffsetShell counts them"):
        for time, wanted in ((-2, 0), (-1, LOAD_RECORDS)):
            output = client(broker, "GetOffsetShell", "--topic", "load", "--time", time).split()
            assert len(output) == 4 and sum(int(line.split(":")[2]) for line in output) == wanted, output


def dump(files, *arguments):
    return tool("DumpLogSegments", "--files", ",".join(map(str, files)), *arguments).decode()


def dumps(checks, broker):
    partitions = {}
    for segment in broker.segments():
        partitions.setdefault(segment.parent, []).append(segment)
    # Only a segment with a successor is closed.
    closed = [segment for segments in partitions.values() for segment in segments[:-1]]
    with checks.check("the dump tool reads every closed segment"):
        assert len(closed) >= 4, f"only {len(closed)} closed segments"
        batches = [batch for segment in closed for batch in codecs_on_disk(segment)]
        output = dump(closed)
        assert "isvalid: false" not in output and "invalid bytes" not in output, output[-2000:]
        counts = [int(count) for count in re.findall(r"^baseOffset: .* count: (\d+) ", output, re.MULTILINE)]
        same(counts, [records for _, records in batches], "records of each batch")
        assert output.count("isvalid: true") == len(batches), "not every batch is called valid"
        print(f"        {len(closed)} segments, {len(batches)} batches, {sum(counts)} records")
    with checks.check("the dump tool reports a flipped byte"):
        victim = closed[0]
        content = bytearray(victim.read_bytes())
        # Inside the first batch's records.
        content[12 + 61 + 20] ^= 0x40
        victim.write_bytes(content)
        assert "isvalid: false" in dump([victim]), "a flipped byte went unnoticed"


def topic_ids(broker):
    """The names of the topics by the names of their folders."""
    described = client(broker, "TopicCommand", "--describe")
    found = re.findall(r"^Topic: (\S+)\s+TopicId: (\S+)", described, re.MULTILINE)
    return {str(uuid.UUID(bytes=base64.urlsafe_b64decode(text + "=="))): name for name, text in found}


def on_disk(checks, broker, ids, codecs):
    with checks.check("the codec on disk is the codec asked for"):
        found = {}
        for segment in broker.segments():
            topic = found.setdefault(ids[segment.parent.parent.name], {})
            for codec, records in codecs_on_disk(segment):
                topic[codec] = topic.get(codec, 0) + records
        wanted = {topic: {codec: MATRIX_PARTITIONS * MATRIX_RECORDS} for topic, codec in MATRIX.items()}
        wanted["large"] = dict.fromkeys(CODECS, 1)
        wanted["load"] = {"none": LOAD_RECORDS}
        wanted.update({f"console-{codec}": {codec: RECORDS} for codec in codecs})
        same(sorted(found.items()), sorted(wanted.items()), "records of each codec")


def main():
    checks = Checks()
    for shards in SHARDS:
        codecs = CODECS if shards == max(SHARDS) else CODECS[-1:]
        with Broker("--message-max-bytes", str(VALUE_BYTES_MAX), shards=shards) as broker:
            topics(checks, broker)
            for connections, step in enumerate((matrix, load)):
                with broker.crowded(connections):
                    step(checks, broker)
            with broker.crowded(shards - 1):
                console(checks, broker, codecs)
            shards_shared_the_work(checks, broker)
            ids = topic_ids(broker)
            with checks.check("a clean stop"):
                broker.stop()
            on_disk(checks, broker, ids, codecs)
            dumps(checks, broker)
    checks.finish()


main()
