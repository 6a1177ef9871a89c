"""What the sections of real clients share: a broker of their own, and counted checks.

It knows nothing of Corelane's code. `codecs_on_disk` reads Kafka's batch headers by their public layout, because
what a client asked for is only seen in the bytes that reached the disk.
"""

import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
POLL_INTERVAL = 0.05
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30

# The counts of shards that a section runs over.
SHARDS = [int(count) for count in os.environ.get("SHARDS", "1 2 4").split()]


def wait_for(what, condition, seconds):
    """Returns the first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(POLL_INTERVAL)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def cpus(shards):
    """A CPU for each shard; where there are too few, shards share them."""
    allowed = sorted(os.sched_getaffinity(0))
    return [allowed[shard % len(allowed)] for shard in range(shards)]


class Broker:
    """A broker on free ports with a new data directory on a real disk; removed when the block is left."""

    def __init__(self, *flags, shards=1):
        self.cpus = cpus(shards)
        self.flags = ["--cpus", ",".join(map(str, self.cpus)), *flags]
        (TARGET / "clients").mkdir(parents=True, exist_ok=True)
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=TARGET / "clients"))
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self.process = None

    def __enter__(self):
        print(f"-- {len(self.cpus)} shards on CPU {', '.join(map(str, self.cpus))}", flush=True)
        try:
            self.start()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def start(self):
        port, admin = free_port(), free_port()
        self.address, self.admin = f"127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        command = [
            os.environ.get("CORELANE", TARGET / "release" / "corelane"),
            "serve",
            "--log-dirs",
            self.data,
            "--listeners",
            f"PLAINTEXT://{self.address}",
        ]
        command += ["--admin-listener", f"127.0.0.1:{admin}", *self.flags]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("/ready", self.is_ready, START_SECONDS_MAX)

    def is_ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"the broker ended with {self.process.returncode}:\n{self.tail()}")
        try:
            with urllib.request.urlopen(f"{self.admin}/ready", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def metric(self, name):
        """What each shard says of a metric, in the shards' order."""
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        found = re.findall(rf'^{name}{{shard="(\d+)"}} (\d+)$', text, re.MULTILINE)
        return [value for _, value in sorted((int(shard), int(value)) for shard, value in found)]

    def threads(self):
        """The CPUs that the shards' threads may use, as sets of (shard, CPUs)."""
        found = set()
        for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
            named = re.match(r"shard-(\d+)-", (task / "comm").read_text())
            allowed = re.search(r"^Cpus_allowed_list:\s*(\S+)$", (task / "status").read_text(), re.MULTILINE)
            if named:
                found.add((int(named[1]), allowed[1]))
        return found

    @contextlib.contextmanager
    def crowded(self, connections):
        """Holds idle connections. A new one goes to the shard that has fewest, so the clients' land on later shards."""
        host, port = self.address.rsplit(":", 1)
        with contextlib.ExitStack() as held:
            for _ in range(connections):
                held.enter_context(socket.create_connection((host, int(port))))
            yield

    def stop(self):
        """An ordinary stop; the data stay until the block is left."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(STOP_SECONDS_MAX)
        self.process = None
        if status != 0:
            raise RuntimeError(f"the broker stopped with status {status}:\n{self.tail()}")

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def segments(self, topic_id=None):
        return sorted(self.data.glob(f"topics/{topic_id or '*'}/*/*.log"))

    def __exit__(self, kind, error, trace):
        if self.process is not None:
            if self.process.poll() is not None:
                print(f"the broker had ended with {self.process.returncode}:\n{self.tail()}")
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                print(f"the broker did not stop in {STOP_SECONDS_MAX} s:\n{self.tail()}")
                self.process.kill()
                self.process.wait()
                raise
        shutil.rmtree(self.folder, ignore_errors=True)


def codecs_on_disk(segment):
    """(codec, records) of each batch of a segment file that a stopped broker left.

    The segment that still took records is longer than they are: zeros follow the last batch.
    """
    content, position, found = segment.read_bytes(), 0, []
    while position < len(content) and any(content[position : position + 61]):
        length, _, magic, _, attributes = struct.unpack_from(">iibIh", content, position + 8)
        (records,) = struct.unpack_from(">i", content, position + 57)
        if magic != 2 or length < 49 or position + 12 + length > len(content):
            raise ValueError(f"{segment} holds no batch at {position}")
        found.append((CODECS[attributes & 7], records))
        position += 12 + length
    if any(content[position:]):
        raise ValueError(f"{segment} holds more than zeros behind its last batch, at {position}")
    return found


def shards_shared_the_work(checks, broker, requests_everywhere=True):
    """Each shard ran on its CPU and stored something, each took requests, and several let requests hop."""
    shards = len(broker.cpus)
    with checks.check(f"each of {shards} shards served on its CPU, and requests hopped between several"):
        assert broker.threads() == {(shard, str(cpu)) for shard, cpu in enumerate(broker.cpus)}, broker.threads()
        stored = broker.metric("corelane_storage_operations_total")
        requests = broker.metric("corelane_requests_total")
        hops = sum(broker.metric("corelane_hops_answered_total"))
        print(f"        requests {requests}, disk operations {stored}, {hops} hops")
        assert len(stored) == len(requests) == shards and all(stored) and any(requests)
        assert all(requests) or not requests_everywhere
        assert (hops > 0) == (shards > 1)


class Checks:
    """Counts checks as section.sh does. A check is a block: it fails when the block raises."""

    def __init__(self):
        self.passed = self.failed = 0

    @contextlib.contextmanager
    def check(self, name):
        begin = time.monotonic()
        try:
            yield
        except Exception:
            self.failed += 1
            traceback.print_exc(file=sys.stdout)
            print(f"FAILED  {name}", flush=True)
        else:
            self.passed += 1
            print(f"ok      {name} ({time.monotonic() - begin:.1f} s)", flush=True)

    def finish(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(0 if self.failed == 0 and self.passed > 0 else 1)


def same(found, wanted, what):
    """Fails at the first difference of two lists, neither of which may be empty."""
    if not wanted:
        raise AssertionError(f"{what}: nothing to compare")
    for at, (one, other) in enumerate(zip(found, wanted)):
        if one != other:
            raise AssertionError(f"{what}: record {at} is {str(one)[:300]}, not {str(other)[:300]}")
    if len(found) != len(wanted):
        raise AssertionError(f"{what}: {len(found)} records, not {len(wanted)}")


def run(*command, stdin=b"", seconds=60, fails=False):
    """Output of a client program; fails unless it ends with status 0 (or, with `fails`, another one)."""
    done = subprocess.run([str(part) for part in command], input=stdin, capture_output=True, timeout=seconds)
    if (done.returncode != 0) != fails:
        errors = (done.stdout + done.stderr).decode(errors="replace")[-3000:]
        raise AssertionError(f"{' '.join(map(str, command))[:600]} ended with {done.returncode}:\n{errors}")
    return done.stderr + done.stdout if fails else done.stdout
