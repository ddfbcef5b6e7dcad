"""Topics with framed Avro for the tests of the log, written without iotml: fastavro, confluent-kafka, plain HTTP."""

from __future__ import annotations

import http.server
import io
import itertools
import json
import ssl
import threading
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

V1 = {
    "type": "record",
    "name": "Pump",
    "namespace": "tests",
    "fields": [
        {"name": "pressure", "type": "float"},
        {"name": "flow", "type": "float"},
        {"name": "stage", "type": "int"},
    ],
}

#: Doubles for floats, a nullable field, nested ones, and a label at the end.
V2 = {
    "type": "record",
    "name": "Pump",
    "namespace": "tests",
    "fields": [
        {"name": "note", "type": "string", "default": ""},
        {"name": "pressure", "type": "double"},
        {"name": "flow", "type": ["null", "double"], "default": None},
        {"name": "stage", "type": "int"},
        {
            "name": "motor",
            "type": {"type": "record", "name": "Motor", "fields": [{"name": "temp", "type": "double"}]},
        },
        {"name": "failure_occurred", "type": "string"},
    ],
}


class Message(NamedTuple):
    """A message on its way into a topic."""

    value: bytes | None
    partition: int = 0
    key: str | None = None
    time: int = 0


def create(bootstrap: str, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
    """Creates a topic on a real cluster; the embedded one is given its topics when it starts."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    new = NewTopic(topic, partitions, 1, config=dict(config or {}))
    admin.create_topics([new])[topic].result(timeout=30)


def produce(bootstrap: str, topic: str, messages: Iterator[Message] | Sequence[Message]) -> None:
    """Writes messages as they are, and waits until they are there."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    failures: list[object] = []

    def done(error: object, _: object) -> None:
        if error is not None:
            failures.append(error)

    for message in messages:
        timed: dict[str, Any] = {"timestamp": message.time} if message.time else {}
        producer.produce(topic, message.value, message.key, message.partition, on_delivery=done, **timed)
        producer.poll(0)
    assert producer.flush(60) == 0, "not everything was written"
    assert not failures, failures[:3]


def frame(schema_id: int, schema: Mapping[str, Any], record: Mapping[str, Any]) -> bytes:
    """One record in the Confluent frame."""
    return b"\0" + schema_id.to_bytes(4, "big") + bare(schema, record)


def bare(schema: Mapping[str, Any], record: Mapping[str, Any]) -> bytes:
    """One record without a frame."""
    datum = io.BytesIO()
    fastavro.schemaless_writer(datum, fastavro.parse_schema(dict(schema)), record)
    return datum.getvalue()


def register(registry: str, subject: str, schema: Mapping[str, Any], ca: Path | None = None) -> int:
    """Registers a schema and gives its id."""
    request = urllib.request.Request(
        f"{registry}/subjects/{subject}/versions",
        json.dumps({"schema": json.dumps(schema)}).encode(),
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    trusted = None if ca is None else ssl.create_default_context(cafile=ca)
    with urllib.request.urlopen(request, timeout=30, context=trusted) as answer:
        return int(json.load(answer)["id"])


@contextmanager
def stub_registry(certificates: Path | None = None) -> Iterator[str]:
    """A registry that knows no more than to keep schemas and to give them away.

    It speaks TLS where there is a folder with its `server.pem` and `server.key`.
    """
    schemas: dict[int, str] = {}
    ids = itertools.count(1)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
            known = next((number for number, schema in schemas.items() if schema == text), None)
            number = known or next(ids)
            schemas[number] = text
            self._answer(200, {"id": number})

        def do_GET(self) -> None:
            number = int(self.path.rsplit("/", 1)[1])
            if number in schemas:
                self._answer(200, {"schema": schemas[number]})
            else:
                self._answer(404, {"error_code": 40403, "message": "Schema not found"})

        def _answer(self, status: int, body: Mapping[str, Any]) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            # A client that does not trust the certificate ends the handshake.
            with suppress(ssl.SSLError):
                super().handle()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    scheme = "http"
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.pem", certificates / "server.key")
        # The handshake belongs into the thread of the connection, where one that fails is no matter to others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def pumps(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """Records that fit both schemas, with numbers that single precision holds."""
    random = np.random.default_rng(seed)
    return [
        {
            "note": f"n{number}",
            "pressure": float(np.float32(random.normal(5, 2))),
            "flow": float(np.float32(random.normal(1, 3))),
            "stage": int(random.integers(-3, 4)),
            "motor": {"temp": float(np.float32(random.normal(60, 9)))},
            "failure_occurred": "true" if random.random() < 0.2 else "false",
        }
        for number in range(n)
    ]
