"""TLS of the wheel: where it finds authorities, and that it keeps to its own OpenSSL beside another one in the process.

Each read is a process of its own, for the variables that name authorities are looked at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import logs
import numpy as np
import pytest
from conftest import server

N_ROWS = 100

READ = """
import json, sys
log = iotml.KafkaLog(sys.argv[1], sys.argv[2], progress=False, **json.loads(sys.argv[3]))
try:
    x, _ = log.numpy()
    print(len(x), float(x.sum()))
except iotml.IotmlError as error:
    while error is not None:
        print(type(error).__name__, error)
        error = error.__cause__
"""


@dataclass
class Secured:
    """A topic that is reached over TLS, as is the registry of its schema."""

    topic: str
    registry: str
    certificates: Path
    total: float

    def read(self, *, imports: str = "import iotml", environment: Mapping[str, str], **options: Any) -> str:
        """What a process says that reads the topic, with no authorities but those of `environment`."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("SSL_CERT_")}
        options = {"registry": self.registry, "features": ["pressure", "stage"], "timeout": 10, **options}
        options["kafka"] = {"security.protocol": "SSL", **options.get("kafka", {})}
        done = subprocess.run(
            [sys.executable, "-c", f"{imports}\n{READ}", server("IOTML_KAFKA_TLS"), self.topic, json.dumps(options)],
            env={**inherited, **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout.strip()

    @property
    def everything(self) -> str:
        """What that process says of a whole read."""
        return f"{N_ROWS} {self.total}"


@pytest.fixture
def secured(unique: str) -> Iterator[Secured]:
    """A topic on the real Kafka, behind a listener whose authority no machine knows; a stub of a registry likewise."""
    certificates = Path(server("IOTML_KAFKA_CERTIFICATES"))
    records = logs.pumps(N_ROWS)
    with logs.stub_registry(certificates) as registry:
        number = logs.register(registry, f"{unique}-value", logs.V2, certificates / "ca.pem")
        logs.create(server("IOTML_KAFKA"), unique, 1)
        messages = [logs.Message(logs.frame(number, logs.V2, record)) for record in records]
        logs.produce(server("IOTML_KAFKA"), unique, messages)
        x = np.array([[record["pressure"], record["stage"]] for record in records], np.float32)
        yield Secured(unique, registry, certificates, float(x.sum()))


def test_an_authority_that_is_named_is_trusted(secured: Secured) -> None:
    ca = str(secured.certificates / "ca.pem")
    registry = {"url": secured.registry, "tls": {"ca": ca}}
    said = secured.read(environment={}, registry=registry, kafka={"ssl.ca.location": ca})
    assert said == secured.everything


def test_authorities_are_those_of_the_file_or_folder_that_the_usual_variables_name(
    secured: Secured, tmp_path: Path
) -> None:
    ca = secured.certificates / "ca.pem"
    assert secured.read(environment={"SSL_CERT_FILE": str(ca)}) == secured.everything
    # A folder is one for OpenSSL once its files have names by which they are found.
    (tmp_path / "ca.pem").write_bytes(ca.read_bytes())
    subprocess.run(["openssl", "rehash", tmp_path], check=True)
    assert secured.read(environment={"SSL_CERT_DIR": str(tmp_path)}) == secured.everything


def test_an_authority_that_nobody_named_is_not_trusted(secured: Secured) -> None:
    other = {"SSL_CERT_FILE": str(secured.certificates / "other-ca.pem")}
    ca = str(secured.certificates / "ca.pem")
    for environment in ({}, other):
        said = secured.read(environment=environment, registry={"url": secured.registry, "tls": {"ca": ca}})
        assert said.startswith("SourceError "), said
        assert "certificate" in said
        said = secured.read(environment=environment, kafka={"ssl.ca.location": ca})
        assert said.startswith("DecodeError schema "), said
        assert secured.registry in said
        assert "certificate" in said


@pytest.mark.parametrize("imports", ["import tensorflow; import iotml", "import iotml; import tensorflow"])
def test_tensorflow_in_the_same_process_is_no_matter(secured: Secured, imports: str) -> None:
    # TensorFlow has a BoringSSL in it, with functions of the same names: in a module that takes OpenSSL from the machine
    # some calls end in that one, and the process in SIGSEGV.
    pytest.importorskip("tensorflow")
    said = secured.read(imports=imports, environment={"SSL_CERT_FILE": str(secured.certificates / "ca.pem")})
    assert said == secured.everything
