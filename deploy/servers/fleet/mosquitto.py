"""Eclipse Mosquitto: one broker open to all on plain and TLS ports, and one that asks for a password.

Two processes, because one would need `per_listener_settings`, which changes how sessions come back after a restart.
"""

import os
import secrets
import subprocess
from pathlib import Path

from . import certificates, gather, ready

PACKAGE = "mosquitto"
USER = "iotml"


class Mosquitto:
    """Anonymous clients on the ports `plain`, `tls` and `mutual_tls`, where they must show a certificate; stock window of 20 messages."""

    name = "mosquitto"
    ports = ("plain", "tls", "mutual_tls")

    def gather(self) -> None:
        gather.tool("mosquitto", PACKAGE)
        gather.tool("mosquitto_pub", "mosquitto-clients")
        gather.tool("openssl", "openssl")

    def prepare(self, home: Path, ports: dict) -> list:
        folder = certificates.make(home)
        secured = f"cafile {folder}/ca.pem\ncertfile {folder}/server.pem\nkeyfile {folder}/server.key\n"
        listeners = f"""\
allow_anonymous true
listener {ports["plain"]} 127.0.0.1
listener {ports["tls"]} 127.0.0.1
{secured}listener {ports["mutual_tls"]} 127.0.0.1
{secured}require_certificate true
"""
        return _command(home, listeners)

    def probe(self, home: Path, ports: dict) -> None:
        ready.mqtt("127.0.0.1", ports["plain"])
        ready.mqtt("127.0.0.1", ports["tls"], ca=home / "certificates" / "ca.pem")

    def exports(self, home: Path, ports: dict) -> dict:
        return {
            "IOTML_MOSQUITTO": f"127.0.0.1:{ports['plain']}",
            "IOTML_MOSQUITTO_TLS": f"127.0.0.1:{ports['tls']}",
            "IOTML_MOSQUITTO_MUTUAL_TLS": f"127.0.0.1:{ports['mutual_tls']}",
            "IOTML_MOSQUITTO_CERTIFICATES": str(home / "certificates"),
        }


class MosquittoAuth:
    """Only clients that know the user and the generated password, on the port `plain`."""

    name = "mosquitto-auth"
    ports = ("plain",)

    def gather(self) -> None:
        gather.tool("mosquitto_passwd", PACKAGE)

    def prepare(self, home: Path, ports: dict) -> list:
        secret, hashed = home / "password", home / "passwords"
        if not hashed.exists():
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_urlsafe(18), encoding="utf-8")
            hashed.touch(mode=0o600)
            hashed.write_text(f"{USER}:{secret.read_text(encoding='utf-8')}\n", encoding="utf-8")
            subprocess.run([gather.tool("mosquitto_passwd", PACKAGE), "-U", str(hashed)], check=True)
        listeners = f"""\
allow_anonymous false
password_file {hashed}
listener {ports["plain"]} 127.0.0.1
"""
        return _command(home, listeners)

    def probe(self, home: Path, ports: dict) -> None:
        password = (home / "password").read_text(encoding="utf-8")
        ready.mqtt("127.0.0.1", ports["plain"], user=USER, password=password)

    def exports(self, home: Path, ports: dict) -> dict:
        return {
            "IOTML_MOSQUITTO_AUTH": f"127.0.0.1:{ports['plain']}",
            "IOTML_MOSQUITTO_USER": USER,
            "IOTML_MOSQUITTO_PASSWORD": (home / "password").read_text(encoding="utf-8"),
        }


def _command(home: Path, listeners: str) -> list:
    data = home / "data"
    data.mkdir(exist_ok=True)
    # Started as root, Mosquitto would drop to its own user and lose the right to its files.
    user = "user root\n" if os.geteuid() == 0 else ""
    config = home / "mosquitto.conf"
    config.write_text(
        f"""\
{user}{listeners}
max_inflight_messages 20
max_queued_messages 0
persistence true
persistence_location {data}/
log_dest stderr
log_type error
log_type warning
""",
        encoding="utf-8",
    )
    return [gather.tool("mosquitto", PACKAGE), "-c", str(config)]
