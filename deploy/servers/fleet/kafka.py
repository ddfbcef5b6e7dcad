"""Apache Kafka, one node in KRaft mode."""

import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from . import gather, ready


class Kafka:
    """Broker and controller in one process, on the ports `client` and `controller`."""

    name = "kafka"
    ports = ("client", "controller")

    def gather(self) -> None:
        gather.java()
        gather.jars("kafka")

    def prepare(self, home: Path, ports: dict) -> list:
        properties = home / "server.properties"
        properties.write_text(_properties(home, ports), encoding="utf-8")
        class_path = f"{gather.jars('kafka')}/*"
        log_settings = [
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
        ]
        java = [gather.java(), "-Xms128m", "-Xmx512m", *log_settings, "-cp", class_path]
        if not (home / "data" / "meta.properties").exists():
            cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            tool = ["kafka.tools.StorageTool", "format", "--standalone", "-t", cluster_id, "-c", str(properties)]
            with open(home / "log", "ab") as log:
                subprocess.run(java + tool, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        return [*java, "kafka.Kafka", str(properties)]

    def probe(self, _home: Path, ports: dict) -> None:
        ready.kafka("127.0.0.1", ports["client"])

    def exports(self, _home: Path, ports: dict) -> dict:
        return {"IOTML_KAFKA": f"127.0.0.1:{ports['client']}"}


def _properties(home: Path, ports: dict) -> str:
    client, controller = ports["client"], ports["controller"]
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{client}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={home / "data"}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
"""
