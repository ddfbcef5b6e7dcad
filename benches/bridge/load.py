"""The messages of the benchmark, and a process that publishes them at full speed over several connections.

It costs as little CPU as it can, because what it takes is missing to everything else on the machine: packets are made before
the clock starts, and one thread writes them in pieces as large as the window allows.

    python load.py --server 127.0.0.1:1883 --topics bench/x --messages 300000
"""

import argparse
import json
import resource
import selectors
import socket
import struct
import sys
import time

CONNECTIONS = 8
CARS = 1000
# Unacknowledged messages that a connection may have: enough that the broker never waits for it.
WINDOW = 100
# Numbers begin here, so that all have as many digits.
FIRST = 10_000_000
# What is published before the clock starts, to see that the bridge has subscribed.
PROBE = b"probe"
PACKET_IDS = 60_000
PUBACK_BYTES = 4


def payload(number: int) -> bytes:
    """Message `number`, 80 bytes of JSON."""
    return b'{"n":%d,"car":"car-%04d","speed":%d.5,"voltage":%d.25,"rpm":%d,"ok":true}' % (
        FIRST + number,
        number % CARS,
        100 + number % 100,
        300 + number % 97,
        1000 + number % 7919,
    )


def number(of: bytes) -> int:
    """Which message a payload says that it is."""
    return int(of[5:13]) - FIRST


def connect(server: str, client_id: str) -> socket.socket:
    """A connection of MQTT 3.1.1 with a clean session."""
    host, port = server.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), 10)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    keep_alive_s = 600
    body = b"\x00\x04MQTT\x04\x02" + struct.pack(">HH", keep_alive_s, len(client_id)) + client_id.encode()
    connection.sendall(bytes([0x10, len(body)]) + body)
    answer = connection.recv(4, socket.MSG_WAITALL)
    if answer[:2] != b"\x20\x02" or answer[3] != 0:
        raise SystemExit(f"load: {server} refuses the connection: {answer!r}")
    return connection


def publish(topic: str, packet_id: int, content: bytes) -> bytes:
    """A PUBLISH packet of QoS 1."""
    body = struct.pack(">H", len(topic)) + topic.encode() + struct.pack(">H", packet_id) + content
    n_bytes, length = len(body), bytearray()
    while True:
        n_bytes, low = divmod(n_bytes, 128)
        length.append(low | (128 if n_bytes else 0))
        if not n_bytes:
            return b"\x32" + bytes(length) + body


class Stream:
    """One connection and the packets that are to go over it."""

    def __init__(self, server: str, topics: str, share: int, n_messages: int):
        """Makes all packets: those with every eighth number, from `share` on."""
        packets = [
            publish(f"{topics}/car-{mine % CARS:04d}", at % PACKET_IDS + 1, payload(mine))
            for at, mine in enumerate(range(share, n_messages, CONNECTIONS))
        ]
        # All are of one size, so that a number of messages is a number of bytes.
        self.size = len(packets[0])
        self.bytes = memoryview(b"".join(packets))
        self.connection = connect(server, f"{topics.replace('/', '-')}-{share}")
        self.connection.setblocking(False)
        self.sent = 0
        self.acked = 0

    def send(self) -> None:
        """Writes what the window allows."""
        until = min((self.acked // PUBACK_BYTES + WINDOW) * self.size, len(self.bytes))
        if self.sent < until:
            self.sent += self.connection.send(self.bytes[self.sent : until])

    def receive(self) -> None:
        """Counts acknowledgements."""
        answer = self.connection.recv(1 << 16)
        if not answer:
            raise SystemExit("load: the broker hung up")
        self.acked += len(answer)

    def is_done(self) -> bool:
        """Whether every message was acknowledged."""
        return self.acked // PUBACK_BYTES * self.size == len(self.bytes)


def main() -> None:
    """Connects, says so, publishes when told to, prints when it began and ended and what it cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--topics", required=True)
    parser.add_argument("--messages", type=int, required=True)
    arguments = parser.parse_args()
    streams = [Stream(arguments.server, arguments.topics, share, arguments.messages) for share in range(CONNECTIONS)]
    ready = selectors.DefaultSelector()
    for stream in streams:
        ready.register(stream.connection, selectors.EVENT_READ, stream)
    print("ready", flush=True)
    sys.stdin.readline()
    begun, before = time.time(), time.process_time()
    for stream in streams:
        stream.send()
    n_open = len(streams)
    while n_open:
        events = ready.select(timeout=60)
        if not events:
            raise SystemExit("load: nothing was acknowledged for a minute")
        for key, _ in events:
            key.data.receive()
            if key.data.is_done():
                ready.unregister(key.data.connection)
                n_open -= 1
            else:
                # What the socket did not take goes out behind the next acknowledgement.
                key.data.send()
    ended = time.time()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    result = {
        "begun": begun,
        "ended": ended,
        "cpu_seconds": time.process_time() - before,
        "peak_mb": usage.ru_maxrss / 1024,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
