"""HiveMQ CE, embedded in a small Java main that lets every client in."""

import os
from pathlib import Path

from . import gather, ready

OPENS = (
    "java.base/java.lang",
    "java.base/java.nio",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
)


class HiveMq:
    """The stock window of 50 messages in flight a client, and a queue that no test fills, on the port `plain`."""

    name = "hivemq"
    ports = ("plain",)

    def gather(self) -> None:
        gather.java()
        _class_path()

    def prepare(self, home: Path, ports: dict) -> list:
        (home / "conf").mkdir(exist_ok=True)
        (home / "conf" / "config.xml").write_text(_config(ports), encoding="utf-8")
        opens = [f"--add-opens={package}=ALL-UNNAMED" for package in OPENS]
        exports = ["--add-exports=java.base/jdk.internal.misc=ALL-UNNAMED"]
        folders = [f"-Dhivemq.log.folder={home}/logs", f"-Djava.io.tmpdir={_made(home / 'tmp')}"]
        memory = ["-Xms128m", "-Xmx768m"]
        return [gather.java(), *memory, *opens, *exports, *folders, "-cp", _class_path(), "HiveMqServer", str(home)]

    def probe(self, _home: Path, ports: dict) -> None:
        ready.mqtt("127.0.0.1", ports["plain"])

    def exports(self, _home: Path, ports: dict) -> dict:
        return {"IOTML_HIVEMQ": f"127.0.0.1:{ports['plain']}"}


def _class_path() -> str:
    jars = f"{gather.jars('hivemq')}/*"
    classes = gather.java_classes("hivemq-main", gather.HERE / "HiveMqServer.java", jars)
    return f"{classes}:{jars}"


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _config(ports: dict) -> str:
    mode = os.environ.get("IOTML_HIVEMQ_PERSISTENCE", "in-memory")
    if mode not in ("in-memory", "file"):
        raise gather.GatherError(f"IOTML_HIVEMQ_PERSISTENCE is '{mode}': it must be in-memory or file")
    return f"""\
<?xml version="1.0"?>
<hivemq>
    <listeners>
        <tcp-listener>
            <port>{ports["plain"]}</port>
            <bind-address>127.0.0.1</bind-address>
        </tcp-listener>
    </listeners>
    <mqtt>
        <queued-messages>
            <max-queue-size>10000000</max-queue-size>
        </queued-messages>
    </mqtt>
    <persistence>
        <mode>{mode}</mode>
    </persistence>
    <anonymous-usage-statistics>
        <enabled>false</enabled>
    </anonymous-usage-statistics>
</hivemq>
"""
