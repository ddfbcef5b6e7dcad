"""One run: a bridge between an MQTT broker and a new topic, 8 connections that publish at full speed, and what it took."""

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import costs
import load
from bridges import Job, Running
from topic import Topic

HERE = Path(__file__).resolve().parent
PATIENCE_S = 180


@dataclass(frozen=True)
class Result:
    """What one run took; CPU is that between the first publish and the last message in Kafka."""

    bridge: str
    broker: str
    messages: int
    # From the first publish to the last message's append, and until the broker had them all.
    seconds: float
    published_seconds: float
    duplicates: int
    bridge_peak_mb: float
    # CPU seconds of each process, of all other programs together, and of the busiest thread of the bridge and of the broker.
    bridge_cpu: float
    broker_cpu: float
    kafka_cpu: float
    load_cpu: float
    other_cpu: float
    bridge_thread_cpu: float
    broker_thread_cpu: float

    @property
    def rate(self) -> float:
        """Thousands of messages a second."""
        return self.messages / self.seconds / 1e3

    @property
    def cpu(self) -> float:
        """CPU microseconds of the bridge a message."""
        return self.bridge_cpu / self.messages * 1e6

    def line(self) -> str:
        """The run as one line of JSON."""
        return json.dumps(asdict(self))


def measure(name: str, bridge: tuple[list, str], job: Job, pids: dict[str, int], n_messages: int, folder: Path) -> Result:
    """Runs `bridge` (command and configuration) and checks that every message is in Kafka; `pids` are broker and Kafka."""
    topic = Topic(job.kafka, job.topic)
    command, config = bridge
    running = Running(command, config, folder)
    try:
        n_probes = _wait_until_subscribed(job, topic, running)
        pids = {"bridge": running.pid, **pids}
        result = _measure(name, job, topic, running, pids, n_messages, n_probes)
    finally:
        running.stop()
    # Stopped before the topic is read, so that a message which comes twice is seen even if it comes late.
    last, n_twice = topic.check(n_messages)
    begun = result.pop("begun")
    return Result(**result, seconds=last - begun, duplicates=n_twice)


def _measure(
    name: str, job: Job, topic: Topic, running: Running, pids: dict[str, int], n_messages: int, n_probes: int
) -> dict:
    command = [sys.executable, HERE / "load.py", "--server", job.mqtt, "--topics", job.topics]
    publisher = subprocess.Popen(
        [*command, "--messages", str(n_messages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        if publisher.stdout.readline() != "ready\n":
            raise SystemExit("bridge: the publisher did not start")
        before = {who: costs.cpu_seconds(pid) for who, pid in pids.items()}
        threads = {who: costs.thread_seconds(pids[who]) for who in ("bridge", "broker")}
        busy, mine = costs.busy_seconds(), time.process_time()
        publisher.stdin.write("go\n")
        publisher.stdin.flush()
        deadline = time.monotonic() + PATIENCE_S
        while (n := topic.count() - n_probes) < n_messages:
            running.check()
            if time.monotonic() > deadline:
                raise SystemExit(f"bridge: {n} of {n_messages} messages are in Kafka after {PATIENCE_S} s")
            time.sleep(0.1)
        took = {who: costs.cpu_seconds(pid) - before[who] for who, pid in pids.items()}
        busiest = {
            who: max(now - then.get(thread, 0) for thread, now in costs.thread_seconds(pids[who]).items())
            for who, then in threads.items()
        }
        busy, mine = costs.busy_seconds() - busy, time.process_time() - mine
        published = json.loads(publisher.communicate(timeout=60)[0])
    finally:
        publisher.kill()
        publisher.wait()
    load_cpu = published["cpu_seconds"]
    return {
        "bridge": name,
        "broker": job.broker,
        "messages": n_messages,
        "begun": published["begun"],
        "published_seconds": published["ended"] - published["begun"],
        "bridge_peak_mb": costs.peak_mb(running.pid),
        "bridge_cpu": took["bridge"],
        "broker_cpu": took["broker"],
        "kafka_cpu": took["kafka"],
        "load_cpu": load_cpu,
        "other_cpu": busy - load_cpu - sum(took.values()),
        "bridge_thread_cpu": busiest["bridge"],
        "broker_thread_cpu": busiest["broker"],
    }


def _wait_until_subscribed(job: Job, topic: Topic, running: Running) -> int:
    """Publishes a message now and then until one of them is in Kafka; returns how many there are."""
    connection = load.connect(job.mqtt, f"{job.topic}-probe")
    deadline = time.monotonic() + 30
    try:
        while True:
            running.check()
            if time.monotonic() > deadline:
                raise SystemExit(f"bridge: it bridges nothing; its log is {running.log}")
            connection.sendall(load.publish(f"{job.topics}/probe", 1, load.PROBE))
            connection.recv(load.PUBACK_BYTES, 0)
            until = time.monotonic() + 1
            while time.monotonic() < until:
                if n := topic.count():
                    return n
                time.sleep(0.05)
    finally:
        connection.close()
