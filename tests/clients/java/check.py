"""Kafka's topics tool, console clients, load generator and offsets tool; and its dump tool on closed segments."""

import os
import re

from harness import CODECS, SHARDS, Broker, Checks, codecs_on_disk, run, same

TOOLS = "org.apache.kafka.tools"
RECORDS = 500
LOAD_RECORDS = 100_000
LOAD_BYTES = 100
# Small, so that the dump tool finds closed segments. The largest batch must fit, or the broker refuses the settings.
SEGMENT_BYTES = 1 << 20
BATCH_BYTES_MAX = SEGMENT_BYTES // 2


def tool(name, *arguments, **options):
    # One small heap and no second compiler: most of a tool's time is its start.
    command = [
        "java",
        "-Xmx256m",
        "-XX:TieredStopAtLevel=1",
        "-XX:+UseSerialGC",
        "-cp",
        os.environ["KAFKA_JARS"] + "/*",
    ]
    return run(*command, f"{TOOLS}.{name}", *arguments, **options)


def client(broker, name, *arguments, **options):
    return tool(name, "--bootstrap-server", broker.address, *arguments, **options).decode()


def topics(checks, broker):
    """Returns the id of the topic that the load goes to."""
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


def console(checks, broker):
    for codec in CODECS:
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
            "console-none",
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
            [f"value {i} of none {'x' * (i % 90)}" for i in range(RECORDS - 3, RECORDS)],
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


def on_disk(checks, broker):
    with checks.check("the codec on disk is the codec asked for"):
        found = []
        for segment in broker.segments():
            if len(list(segment.parent.parent.iterdir())) == 1:
                batches = codecs_on_disk(segment)
                assert sum(records for _, records in batches) == RECORDS, batches[:20]
                found += {codec for codec, _ in batches}
        assert sorted(found) == sorted(CODECS), found


def main():
    checks = Checks()
    for shards in SHARDS:
        with Broker(shards=shards) as broker:
            topics(checks, broker)
            console(checks, broker)
            load(checks, broker)
            with checks.check("a clean stop"):
                broker.stop()
            on_disk(checks, broker)
            dumps(checks, broker)
    checks.finish()


main()
