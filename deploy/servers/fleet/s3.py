"""Servers that speak the protocol of S3, with a bucket `models`."""

import secrets
from pathlib import Path

from . import gather, ready

BUCKET = "models"
USER = "models"


class FakeS3:
    """gofakes3: small, in memory; it checks no password."""

    name = "s3"
    ports = ("http",)
    package = "github.com/johannesboyne/gofakes3/cmd/gofakes3@v1.2.0"

    def gather(self) -> None:
        gather.go_program("gofakes3", self.package, [])

    def prepare(self, _home: Path, ports: dict) -> list:
        program = gather.go_program("gofakes3", self.package, [])
        options = ["-host", f"127.0.0.1:{ports['http']}", "-backend", "memory", "-initialbucket", BUCKET, "-quiet"]
        return [str(program), *options]

    def probe(self, _home: Path, ports: dict) -> None:
        ready.http(f"{_url(ports)}/{BUCKET}")

    def exports(self, _home: Path, ports: dict) -> dict:
        return {"IOTML_S3": _url(ports)}


class Minio:
    """MinIO: checks passwords, keeps files, and puts an object where there is none in one step."""

    name = "minio"
    ports = ("http",)
    # Minutes of building on a small machine, so only who names it gets it.
    is_extra = True
    package = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"

    def gather(self) -> None:
        gather.go_program("minio", self.package, ["kqueue"])

    def prepare(self, home: Path, ports: dict) -> list:
        program = gather.go_program("minio", self.package, ["kqueue"])
        # A folder of the data is a bucket.
        (home / "data" / BUCKET).mkdir(parents=True, exist_ok=True)
        settings = home / "settings"
        if not settings.exists():
            settings.touch(mode=0o600)
            settings.write_text(
                f"MINIO_ROOT_USER={USER}\nMINIO_ROOT_PASSWORD={secrets.token_hex(16)}\n"
                "MINIO_UPDATE=off\nMINIO_BROWSER=off\n",
                encoding="utf-8",
            )
        address = ["--address", f"127.0.0.1:{ports['http']}"]
        return ["env", f"MINIO_CONFIG_ENV_FILE={settings}", str(program), "server", str(home / "data"), *address]

    def probe(self, _home: Path, ports: dict) -> None:
        ready.http(f"{_url(ports)}/minio/health/ready")

    def exports(self, home: Path, ports: dict) -> dict:
        lines = (home / "settings").read_text(encoding="utf-8").splitlines()
        settings = dict(line.split("=", 1) for line in lines)
        return {"IOTML_MINIO": _url(ports), "IOTML_MINIO_PASSWORD": settings["MINIO_ROOT_PASSWORD"]}


def _url(ports: dict) -> str:
    return f"http://127.0.0.1:{ports['http']}"
