"""The bridges that are compared: how each is configured and started.

They do the same: messages of QoS 1 from a persistent session, acknowledged when Kafka has them (`acks=all`, lz4), the payload as
it came, the MQTT topic as key, no headers.
"""

import contextlib
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

STOP_TIMEOUT_S = 30


@dataclass(frozen=True)
class Job:
    """From where to where, over how many connections; `window` is what the broker sends each unacknowledged."""

    broker: str
    mqtt: str
    topics: str
    kafka: str
    topic: str
    window: int
    connections: int


def iotml(job: Job, source: str = "mqtt") -> str:
    """The window that the broker allows, and a short wait for more before a request to Kafka; all else by default."""
    return f"""
[pipeline]
name = "{job.topic}"
instance = "bench"

[source]
type = "{source}"
server = "mqtt://{job.mqtt}"
{'group = "bridge"' if job.connections > 1 else ""}
connections = {job.connections}
receive_maximum = {job.window}
headers = "none"

[[source.topics]]
filter = "{job.topics}/{{car}}"

[[route]]
name = "kafka"

[route.sink]
type = "kafka"
topic = "{job.topic}"

[route.sink.kafka]
"bootstrap.servers" = "{job.kafka}"
"compression.type" = "lz4"
"linger.ms" = "1"
"""


def iotml_early(job: Job) -> str:
    """The same, but acknowledging what was received instead of what is durable, as most bridges do."""
    return iotml(job, "mqtt_early_ack")


def telegraf(job: Job) -> str:
    """A flush as soon as a batch is full, and batches of half of what may be open: in trials its best."""
    n_open = job.connections * job.window
    batch = min(n_open // 2, 1000)
    share = "$share/bridge/" if job.connections > 1 else ""
    inputs = "".join(
        f"""
[[inputs.mqtt_consumer]]
servers = ["tcp://{job.mqtt}"]
topics = ["{share}{job.topics}/+"]
client_id = "{job.topic}-{number}"
qos = 1
persistent_session = true
max_undelivered_messages = {max(2 * job.window, batch)}
data_format = "value"
data_type = "string"
"""
        for number in range(job.connections)
    )
    return f"""
[agent]
metric_batch_size = {batch}
metric_buffer_limit = {max(10 * n_open, 10_000)}
flush_interval = "10ms"
omit_hostname = true
{inputs}
[[outputs.kafka]]
brokers = ["{job.kafka}"]
topic = "{job.topic}"
routing_tag = "topic"
compression_codec = 3
required_acks = -1
data_format = "template"
template = '{{{{ .Field "value" }}}}'
"""


class Running:
    """A bridge that runs, with its log beside its configuration."""

    def __init__(self, command: list, config: str, folder: Path):
        """Starts `command` with the path of the configuration behind it."""
        folder.mkdir(parents=True)
        file = folder / "bridge.toml"
        file.write_text(config, encoding="utf-8")
        self.log = folder / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*command, str(file)], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def check(self) -> None:
        """Raises if it has ended."""
        if self.process.poll() is not None:
            tail = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
            raise SystemExit("\n    ".join([f"bridge: it ended with code {self.process.returncode}:", *tail]))

    def stop(self) -> None:
        """Stops it as a service manager would."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise SystemExit(f"bridge: it did not stop within {STOP_TIMEOUT_S} s; its log is {self.log}") from None
