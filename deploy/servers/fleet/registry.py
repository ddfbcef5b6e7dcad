"""Apicurio Registry, in memory, with the Confluent API under a path."""

from pathlib import Path

from . import gather, ready

COORDINATES = "io.apicurio:apicurio-registry-app:2.6.13.Final:tar.gz:all"


class Registry:
    """The schema registry, on the port `http`."""

    name = "registry"
    ports = ("http",)

    def gather(self) -> None:
        gather.java()
        gather.maven_archive("apicurio", COORDINATES)

    def prepare(self, _home: Path, ports: dict) -> list:
        (jar,) = gather.maven_archive("apicurio", COORDINATES).glob("*-runner.jar")
        address = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={ports['http']}"]
        return [gather.java(), "-Xms64m", "-Xmx512m", *address, "-jar", str(jar)]

    def probe(self, _home: Path, ports: dict) -> None:
        ready.registry(_url(ports))

    def exports(self, _home: Path, ports: dict) -> dict:
        return {"IOTML_REGISTRY": _url(ports)}


def _url(ports: dict) -> str:
    return f"http://127.0.0.1:{ports['http']}/apis/ccompat/v7"
