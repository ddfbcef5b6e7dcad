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
LIMITED_USER = "limited"
STOCK_WINDOW = 20


class Mosquitto:
    """Anonymous clients on the ports `plain`, `tls` and `mutual_tls`, where they must show a certificate; stock window of 20 messages.
    On `expired_tls` and `elsewhere_tls` it shows a certificate that is not to be trusted."""

    ports = ("plain", "tls", "mutual_tls", "expired_tls", "elsewhere_tls")

    def __init__(self, name: str = "mosquitto", window: int = STOCK_WINDOW):
        self.name = name
        self.window = window

    def gather(self) -> None:
        gather.tool("mosquitto", PACKAGE)
        gather.tool("mosquitto_pub", "mosquitto-clients")
        gather.tool("openssl", "openssl")

    def prepare(self, home: Path, ports: dict) -> list:
        folder = certificates.make(home)
        listeners = f"""\
allow_anonymous true
listener {ports["plain"]} 127.0.0.1
{_secured(ports["tls"], folder, "server")}
{_secured(ports["mutual_tls"], folder, "server")}
require_certificate true
{_secured(ports["expired_tls"], folder, "expired")}
{_secured(ports["elsewhere_tls"], folder, "elsewhere")}
"""
        return _command(home, listeners, self.window)

    def probe(self, home: Path, ports: dict) -> None:
        ready.mqtt("127.0.0.1", ports["plain"])
        ready.mqtt("127.0.0.1", ports["tls"], ca=home / "certificates" / "ca.pem")

    def exports(self, home: Path, ports: dict) -> dict:
        return {
            "IOTML_MOSQUITTO": f"127.0.0.1:{ports['plain']}",
            "IOTML_MOSQUITTO_TLS": f"127.0.0.1:{ports['tls']}",
            "IOTML_MOSQUITTO_MUTUAL_TLS": f"127.0.0.1:{ports['mutual_tls']}",
            "IOTML_MOSQUITTO_EXPIRED_TLS": f"127.0.0.1:{ports['expired_tls']}",
            "IOTML_MOSQUITTO_ELSEWHERE_TLS": f"127.0.0.1:{ports['elsewhere_tls']}",
            "IOTML_MOSQUITTO_CERTIFICATES": str(home / "certificates"),
        }


class MosquittoAuth:
    """Only clients that know a user and the generated password, on the ports `plain` and `tls`; one user may do everything, one what
    the bridge and its alerts need."""

    name = "mosquitto-auth"
    ports = ("plain", "tls")

    def gather(self) -> None:
        gather.tool("mosquitto_passwd", PACKAGE)
        gather.tool("openssl", "openssl")

    def prepare(self, home: Path, ports: dict) -> list:
        folder = certificates.make(home)
        secret, hashed, acl = home / "password", home / "passwords", home / "acl"
        if not hashed.exists():
            secret.touch(mode=0o600)
            secret.write_text(secrets.token_urlsafe(18), encoding="utf-8")
            hashed.touch(mode=0o600)
            users = "".join(f"{user}:{secret.read_text(encoding='utf-8')}\n" for user in (USER, LIMITED_USER))
            hashed.write_text(users, encoding="utf-8")
            subprocess.run([gather.tool("mosquitto_passwd", PACKAGE), "-U", str(hashed)], check=True)
            acl.touch(mode=0o600)
            acl.write_text(
                f"user {USER}\ntopic readwrite #\nuser {LIMITED_USER}\n"
                "topic read vehicles/sensor/data/#\ntopic write vehicles/+/alerts\n",
                encoding="utf-8",
            )
        listeners = f"""\
allow_anonymous false
password_file {hashed}
acl_file {acl}
listener {ports["plain"]} 127.0.0.1
{_secured(ports["tls"], folder, "server")}
"""
        return _command(home, listeners)

    def probe(self, home: Path, ports: dict) -> None:
        password = (home / "password").read_text(encoding="utf-8")
        ready.mqtt("127.0.0.1", ports["plain"], user=USER, password=password)

    def exports(self, home: Path, ports: dict) -> dict:
        return {
            "IOTML_MOSQUITTO_AUTH": f"127.0.0.1:{ports['plain']}",
            "IOTML_MOSQUITTO_AUTH_TLS": f"127.0.0.1:{ports['tls']}",
            "IOTML_MOSQUITTO_AUTH_CERTIFICATES": str(home / "certificates"),
            "IOTML_MOSQUITTO_USER": USER,
            "IOTML_MOSQUITTO_LIMITED_USER": LIMITED_USER,
            "IOTML_MOSQUITTO_PASSWORD": (home / "password").read_text(encoding="utf-8"),
        }


def _secured(port: int, folder: Path, certificate: str) -> str:
    return f"""\
listener {port} 127.0.0.1
cafile {folder}/ca.pem
certfile {folder}/{certificate}.pem
keyfile {folder}/{certificate}.key"""


def _command(home: Path, listeners: str, window: int = STOCK_WINDOW) -> list:
    data = home / "data"
    data.mkdir(exist_ok=True)
    # Started as root, Mosquitto would drop to its own user and lose the right to its files.
    user = "user root\n" if os.geteuid() == 0 else ""
    config = home / "mosquitto.conf"
    config.write_text(
        f"""\
{user}{listeners}
max_inflight_messages {window}
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
