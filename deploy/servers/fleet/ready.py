"""Readiness probes: each asks a server in its own protocol and raises `NotReady` until the right answer comes."""

import json
import socket
import ssl
import struct
import urllib.error
import urllib.request

TIMEOUT_S = 2.0


class NotReady(Exception):
    """The server does not serve yet; the text says how far it got."""


def kafka(host: str, port: int) -> None:
    """Asks for cluster metadata (request version 4) and wants at least one live broker in the answer."""
    client_id = b"iotml-servers"
    header = struct.pack(">hhih", 3, 4, 1, len(client_id)) + client_id
    no_topics = struct.pack(">i", 0)
    may_create_topics = b"\x00"
    request = header + no_topics + may_create_topics
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (length,) = struct.unpack(">i", _read(connection, 4))
            if not 12 <= length <= 1 << 20:
                raise NotReady(f"metadata answer has a length of {length} bytes")
            answer = _read(connection, length)
    except OSError as error:
        raise NotReady(f"no metadata: {error}") from error
    _correlation_id, _throttle_ms, n_brokers = struct.unpack(">iii", answer[:12])
    if n_brokers < 1:
        raise NotReady("metadata names no broker yet")


def mqtt(host: str, port: int, ca=None, user=None, password=None) -> None:
    """Sends an MQTT 5 CONNECT, over TLS if a CA file is given, and wants a CONNACK with reason code 0."""
    flags = 0x02  # clean start
    payload = _field(b"iotml-servers-probe")
    if user is not None:
        flags |= 0xC0
        payload += _field(user.encode()) + _field((password or "").encode())
    body = _field(b"MQTT") + bytes([5, flags]) + struct.pack(">H", 10) + b"\x00" + payload
    if len(body) > 127:
        raise ValueError("the probe's CONNECT packet must fit a length of one byte")
    try:
        with socket.create_connection((host, port), TIMEOUT_S) as plain:
            connection = plain
            if ca is not None:
                connection = ssl.create_default_context(cafile=str(ca)).wrap_socket(plain, server_hostname=host)
            with connection:
                connection.sendall(bytes([0x10, len(body)]) + body)
                answer = _read(connection, 4)
                connection.sendall(b"\xe0\x00")  # DISCONNECT, so that the broker logs no error
    except OSError as error:
        raise NotReady(f"no CONNACK: {error}") from error
    if answer[0] != 0x20 or answer[3] != 0:
        raise NotReady(f"CONNECT was refused: packet type {answer[0]:#x}, reason code {answer[3]:#x}")


def http(url: str) -> None:
    """Wants HTTP 200."""
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_S):
            pass
    except (OSError, urllib.error.URLError) as error:
        raise NotReady(f"GET {url}: {error}") from error


def registry(url: str) -> None:
    """Lists the subjects and wants HTTP 200 with a JSON array."""
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=TIMEOUT_S) as answer:
            subjects = json.load(answer)
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise NotReady(f"GET {url}/subjects: {error}") from error
    if not isinstance(subjects, list):
        raise NotReady(f"GET {url}/subjects did not answer with a list")


def _field(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


def _read(connection: socket.socket, n_bytes: int) -> bytes:
    content = b""
    while len(content) < n_bytes:
        piece = connection.recv(n_bytes - len(content))
        if not piece:
            raise OSError("the server closed the connection")
        content += piece
    return content
