"""An idempotent producer behind a TCP proxy that drops answers: what it sends again must not be stored again.

The proxy reads Kafka's frames just far enough to know Produce requests and their correlation ids. Every so often it
closes the connection in place of passing an answer on. The batches of the request were stored, the producer cannot
know it, and must send them again.
"""

import socket
import struct
import threading
import time

import confluent_kafka as confluent

from harness import SHARDS, Broker, Checks, free_port, same, shards_shared_the_work

PRODUCE = 0
RECORDS = 5000
PARTITIONS = 4
# Of Produce answers, this one in so many is dropped, up to a bound.
DROP_EVERY = 7
DROPS_MAX = 12
WAIT_SECONDS = 60


def read_exactly(source, size):
    content = b""
    while len(content) < size:
        more = source.recv(size - len(content))
        if not more:
            raise ConnectionError("closed")
        content += more
    return content


def read_frame(source):
    (size,) = struct.unpack(">i", read_exactly(source, 4))
    return read_exactly(source, size)


def batches(request):
    """(producer id, epoch, first sequence, records) of each batch of magic 2 with a producer in a Produce request.

    Found by their shape, so that no version of the request need be known: the length is the rest of a batch's, and
    what a record holds in this test is never mistaken for it.
    """
    found, at = [], 0
    while at + 61 <= len(request):
        length, _, magic, _, attributes = struct.unpack_from(">iibIh", request, at + 8)
        if (
            magic == 2
            and 49 <= length <= len(request) - at - 12
            and not request[at : at + 8].strip(b"\0")
            and not attributes & ~7
        ):
            found.append(struct.unpack_from(">qhii", request, at + 43))
            at += 12 + length
        else:
            at += 1
    return found


class Proxy:
    """Listens on `port`, which is what the broker advertises, and passes on to the broker's own listener."""

    def __init__(self, port, broker_port):
        self.broker_port = broker_port
        self.listener = socket.create_server(("127.0.0.1", port))
        self.lock = threading.Lock()
        self.answers = self.dropped = self.resent = self.duplicates = 0
        self.unanswered = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            broker = socket.create_connection(("127.0.0.1", self.broker_port))
            asked = {}
            for passing in (self.pass_requests, self.pass_answers):
                threading.Thread(
                    target=self.guarded, args=(passing, client, broker, asked), daemon=True
                ).start()

    def guarded(self, passing, client, broker, asked):
        try:
            passing(client, broker, asked)
        except OSError:
            pass
        for end in (client, broker):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def pass_requests(self, client, broker, asked):
        while True:
            frame = read_frame(client)
            key, _, correlation = struct.unpack_from(">hhi", frame)
            if key == PRODUCE:
                self.note(batches(frame), asked, correlation)
            broker.sendall(struct.pack(">i", len(frame)) + frame)

    def note(self, sent, asked, correlation):
        with self.lock:
            # A batch that was stored, because its answer came here, and is on its way again.
            again = self.unanswered.intersection(sent)
            asked[correlation] = sent, again
            self.resent += len(again)
            self.unanswered -= again

    def pass_answers(self, client, broker, asked):
        while True:
            frame = read_frame(broker)
            (correlation,) = struct.unpack_from(">i", frame)
            with self.lock:
                if correlation in asked:
                    sent, again = asked.pop(correlation)
                    self.answers += 1
                    if self.answers % DROP_EVERY == 0 and self.dropped < DROPS_MAX:
                        self.dropped += 1
                        self.unanswered.update(sent)
                        raise ConnectionError("dropped an answer")
                    self.duplicates += len(again)
            client.sendall(struct.pack(">i", len(frame)) + frame)

    def close(self):
        self.listener.close()


def produce(address):
    failures = []
    producer = confluent.Producer(
        {
            "bootstrap.servers": address,
            "enable.idempotence": True,
            "linger.ms": 1,
            "batch.num.messages": 25,
            "reconnect.backoff.ms": 10,
            "reconnect.backoff.max.ms": 50,
            "retry.backoff.ms": 20,
            "log_level": 0,
        }
    )
    for i in range(RECORDS):
        producer.produce(
            "once",
            str(i).encode(),
            partition=i % PARTITIONS,
            on_delivery=lambda error, _: error and failures.append(error),
        )
        producer.poll(0)
    left = producer.flush(WAIT_SECONDS)
    assert left == 0 and not failures, (left, failures[:3])


def consume(address):
    """All values by partition, up to the ends that the broker names."""
    consumer = confluent.Consumer(
        {"bootstrap.servers": address, "group.id": "unused", "enable.auto.commit": False}
    )
    at = [confluent.TopicPartition("once", partition, 0) for partition in range(PARTITIONS)]
    ends = {p.partition: consumer.get_watermark_offsets(p, WAIT_SECONDS)[1] for p in at}
    found = {partition: [] for partition in ends}
    consumer.assign(at)
    deadline = time.monotonic() + WAIT_SECONDS
    while any(len(found[partition]) < end for partition, end in ends.items()):
        assert (
            time.monotonic() < deadline
        ), f"{sum(map(len, found.values()))} of {sum(ends.values())} records came"
        for message in consumer.consume(1000, 0.2):
            assert message.error() is None, message.error()
            found[message.partition()].append((message.offset(), int(message.value())))
    consumer.close()
    return found


def main():
    checks = Checks()
    for shards in SHARDS:
        port = free_port()
        flags = [
            "--advertised-listeners",
            f"PLAINTEXT://127.0.0.1:{port}",
            "--num-partitions",
            str(PARTITIONS),
        ]
        with Broker(*flags, shards=shards) as broker:
            proxy = Proxy(port, int(broker.address.rsplit(":", 1)[1]))
            with checks.check("everything is delivered through dropped answers"):
                produce(f"127.0.0.1:{port}")
                print(
                    f"        {proxy.answers} answers, {proxy.dropped} dropped, "
                    f"{proxy.resent} stored batches sent again, {proxy.duplicates} of these answered"
                )
            with checks.check("stored batches were sent again and answered as duplicates"):
                assert proxy.dropped > 0 and proxy.duplicates > 0, (proxy.dropped, proxy.duplicates)
            with checks.check("each record is stored once, in order"):
                for partition, found in consume(f"127.0.0.1:{port}").items():
                    wanted = list(enumerate(range(partition, RECORDS, PARTITIONS)))
                    same(found, wanted, f"partition {partition}")
            proxy.close()
            # One producer and one consumer have too few connections for many shards.
            shards_shared_the_work(checks, broker, requests_everywhere=False)
            with checks.check("a clean stop"):
                broker.stop()
    checks.finish()


main()
