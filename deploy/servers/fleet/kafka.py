"""Apache Kafka, one node in KRaft mode."""

import os
import secrets
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path

from . import certificates, gather, ready

USER = "iotml"
# May do nothing before an ACL says so.
LIMITED_USER = "limited"
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class Kafka:
    """Broker and controller in one process, on the ports `client` and `controller`; the others ask for TLS, a log-in, or both, for a
    client's certificate, or show a certificate that is not to be trusted.

    Clients of the ports `proxied_1` and `proxied_2` are told to come by the addresses in `IOTML_KAFKA_PROXIES`.
    """

    name = "kafka"
    ports = (
        "client",
        "controller",
        "tls",
        "sasl",
        "sasl_tls",
        "mutual_tls",
        "expired_tls",
        "elsewhere_tls",
        "proxied_1",
        "proxied_2",
    )

    def gather(self) -> None:
        gather.java()
        gather.jars("kafka")

    def prepare(self, home: Path, ports: dict) -> list:
        properties = home / "server.properties"
        folder = certificates.make(home)
        passwords = {user: _password(home, user) for user in (USER, LIMITED_USER)}
        for name in ("server", "expired", "elsewhere"):
            parts = [folder / part for part in (f"{name}.key", f"{name}.pem", "ca.pem")]
            keystore = "".join(part.read_text(encoding="utf-8") for part in parts)
            (folder / f"{name}-keystore.pem").write_text(keystore, encoding="utf-8")
        properties.write_text(_properties(home, ports) + _security(folder, passwords), encoding="utf-8")
        class_path = f"{gather.jars('kafka')}/*"
        log_settings = [
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
        ]
        java = [gather.java(), "-Xms128m", "-Xmx512m", *log_settings, "-cp", class_path]
        if not (home / "data" / "meta.properties").exists():
            cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            # Joined by the equals sign, since one in 64 begins like an option.
            tool = ["kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster_id}", "-c", str(properties)]
            for mechanism in MECHANISMS[1:]:
                for user, password in passwords.items():
                    tool += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
            with open(home / "log", "ab") as log:
                subprocess.run(java + tool, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        return [*java, "kafka.Kafka", str(properties)]

    def probe(self, _home: Path, ports: dict) -> None:
        ready.kafka("127.0.0.1", ports["client"])

    def exports(self, home: Path, ports: dict) -> dict:
        return {
            "IOTML_KAFKA": f"127.0.0.1:{ports['client']}",
            "IOTML_KAFKA_TLS": f"127.0.0.1:{ports['tls']}",
            "IOTML_KAFKA_SASL": f"127.0.0.1:{ports['sasl']}",
            "IOTML_KAFKA_SASL_TLS": f"127.0.0.1:{ports['sasl_tls']}",
            "IOTML_KAFKA_MUTUAL_TLS": f"127.0.0.1:{ports['mutual_tls']}",
            "IOTML_KAFKA_EXPIRED_TLS": f"127.0.0.1:{ports['expired_tls']}",
            "IOTML_KAFKA_ELSEWHERE_TLS": f"127.0.0.1:{ports['elsewhere_tls']}",
            "IOTML_KAFKA_CERTIFICATES": str(home / "certificates"),
            "IOTML_KAFKA_USER": USER,
            "IOTML_KAFKA_PASSWORD": _password(home, USER),
            "IOTML_KAFKA_LIMITED_USER": LIMITED_USER,
            "IOTML_KAFKA_LIMITED_PASSWORD": _password(home, LIMITED_USER),
        }


def _password(home: Path, user: str) -> str:
    secret = home / f"password-{user}"
    if not secret.exists():
        secret.touch(mode=0o600)
        # Neither commas nor brackets, which StorageTool takes for its own.
        secret.write_text(secrets.token_hex(12), encoding="utf-8")
    return secret.read_text(encoding="utf-8")


def _security(folder: Path, passwords: dict) -> str:
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    users = " ".join(f'user_{user}="{password}"' for user, password in passwords.items())
    plain = f"org.apache.kafka.common.security.plain.PlainLoginModule required {users};"
    modules = {"PLAIN": plain, "SCRAM-SHA-256": scram, "SCRAM-SHA-512": scram}
    lines = [
        f"sasl.enabled.mechanisms={','.join(MECHANISMS)}",
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={folder}/server-keystore.pem",
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={folder}/ca.pem",
        "listener.name.mutual_tls.ssl.client.auth=required",
        f"listener.name.expired_tls.ssl.keystore.location={folder}/expired-keystore.pem",
        f"listener.name.elsewhere_tls.ssl.keystore.location={folder}/elsewhere-keystore.pem",
        # Everybody but the limited user may do everything.
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        f"super.users=User:ANONYMOUS;User:{USER};User:CN={USER}",
    ]
    for listener in ("sasl_plaintext", "sasl_ssl"):
        for mechanism in MECHANISMS:
            lines.append(f"listener.name.{listener}.{mechanism.lower()}.sasl.jaas.config={modules[mechanism]}")
    return "\n".join(lines) + "\n"


def _properties(home: Path, ports: dict) -> str:
    client, controller = ports["client"], ports["controller"]
    secured = {"SSL": ports["tls"], "SASL_PLAINTEXT": ports["sasl"], "SASL_SSL": ports["sasl_tls"]}
    of_tls = {name.upper(): ports[name] for name in ("mutual_tls", "expired_tls", "elsewhere_tls")}
    all_ports = {"PLAINTEXT": client, **secured, **of_tls}
    advertised = ",".join(f"{name}://127.0.0.1:{port}" for name, port in all_ports.items())
    protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"
    protocols += "".join(f",{name}:{name}" for name in secured) + "".join(f",{name}:SSL" for name in of_tls)
    listeners = advertised
    for number, proxy in enumerate(filter(None, os.environ.get("IOTML_KAFKA_PROXIES", "").split(",")), start=1):
        listeners += f",PROXIED_{number}://127.0.0.1:{ports[f'proxied_{number}']}"
        advertised += f",PROXIED_{number}://{proxy}"
        protocols += f",PROXIED_{number}:PLAINTEXT"
    return f"""\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map={protocols}
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
# A killed broker may come back only once its session is over, which takes 9 s by default.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
"""
