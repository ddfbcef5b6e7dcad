"""Models to be published, and stores of them: in a folder, in memory, on a server that speaks the protocol of S3."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import iotml
import models


def properties(endpoint: str, password: str = "any-password") -> dict[str, Any]:
    """Give the properties of a store on an S3 server."""
    known = {"aws_endpoint": endpoint, "allow_http": True, "aws_region": "us-east-1", "aws_access_key_id": "models"}
    return {**known, "aws_secret_access_key": password}


def variables(properties: dict[str, Any]) -> dict[str, str]:
    """Give the variables of the environment that say the same."""
    return {f"AWS_{name.removeprefix('aws_').upper()}": str(value).lower() for name, value in properties.items()}


def impatient(endpoint: str, password: str = "any-password") -> dict[str, Any]:
    """Give the options of a store on an S3 server that is not waited for."""
    times = {"connect_timeout": 0.5, "request_timeout": 0.5, "retry_timeout": 1, "max_retries": 0}
    return {"properties": properties(endpoint, password), **times}


def model(folder: Path, factor: float = 0.5, version: str = "1", score: float | None = None) -> Path:
    """Save a model `cars` that gives `(speed, gear)` times `factor` back; `score` is what its golden row claims."""
    path = models.scaled_copy(folder / f"cars-{factor}-{version}.onnx", 2, factor)
    golden = {"input": [[4.0, 2.0]], "score": [score_of(factor) if score is None else score]}
    more = {"name": "cars", "version": version, "threshold": {"value": 1.5}, "golden": golden}
    manifest = models.manifest("reconstruction", ["speed", "gear"], **more)
    path.write_bytes(iotml.embed_manifest(path.read_bytes(), manifest))
    return path


def score_of(factor: float) -> float:
    """Give the score of the row (4, 2) by `model`."""
    return (1 - factor) ** 2 * (4.0**2 + 2.0**2) / 2


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a private and a public key, by the commands in docs/models.md."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    commands: list[list[str | Path]] = [
        ["genpkey", "-algorithm", "ed25519", "-out", private],
        ["pkey", "-in", private, "-pubout", "-out", public],
    ]
    for words in commands:
        subprocess.run(["openssl", *words], check=True, capture_output=True)
    return private, public
