"""Fetches the servers into a cache folder outside the checkout, so that a second run needs no network."""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
APT_PACKAGES = HERE.parent / "apt-packages"
MAVEN_DEPENDENCY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"


class GatherError(Exception):
    """A server could not be fetched; the text says what to do."""


def cache() -> Path:
    """The cache folder: `IOTML_CACHE`, else `iotml` below `XDG_CACHE_HOME` or `~/.cache`."""
    folder = os.environ.get("IOTML_CACHE")
    if folder:
        return Path(folder).resolve()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).resolve() / "iotml"


@contextlib.contextmanager
def only_one(name: str):
    """Holds a lock in the cache, so that two runs never fetch the same thing at once."""
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / f"{name}.lock", "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def tool(command: str, package: str) -> str:
    """The path of a program, installed from its Debian package if it is missing."""
    path = _which(command)
    if path is None:
        _run([str(APT_PACKAGES), package], f"{command} is missing")
        path = _which(command)
    if path is None:
        raise GatherError(f"{command} is missing: install the package {package}")
    return path


def java(command: str = "java") -> str:
    """The path of `java` or `javac`, 17 or newer, as Kafka 4 asks for."""
    path = tool(command, "default-jdk-headless")
    version = subprocess.run([path, "-version"], capture_output=True, text=True, check=False)
    text = (version.stderr + version.stdout).replace('"', " ")
    number = next((word for word in text.split() if word[:1].isdigit()), "0")
    if int(number.split(".")[0].split("-")[0]) < 17:
        raise GatherError(f"{path} is Java {number}; Kafka 4 needs Java 17 or newer (package openjdk-17-jdk-headless)")
    return path


def jars(name: str) -> Path:
    """A folder with the jars that `maven/NAME.xml` lists and what they depend on."""
    pom = HERE / "maven" / f"{name}.xml"

    def fetch(folder: Path) -> None:
        goal = f"{MAVEN_DEPENDENCY}:copy-dependencies"
        _maven(["-f", str(pom), goal, "-DincludeScope=runtime", f"-DoutputDirectory={folder}"], name)

    return _folder(name, pom.read_bytes(), fetch)


def maven_archive(name: str, coordinates: str) -> Path:
    """A folder with the unpacked tar.gz that Maven has under `group:artifact:version:tar.gz:classifier`."""

    def fetch(folder: Path) -> None:
        _maven([f"{MAVEN_DEPENDENCY}:get", f"-Dartifact={coordinates}", "-Dtransitive=false"], name)
        group, artifact, version, packaging, classifier = coordinates.split(":")
        at = _maven_repository().joinpath(*group.split("."), artifact, version)
        with tarfile.open(at / f"{artifact}-{version}-{classifier}.{packaging}") as archive:
            archive.extractall(folder)

    return _folder(name, coordinates.encode(), fetch)


def java_classes(name: str, source: Path, class_path: str) -> Path:
    """A folder with the compiled classes of one Java file."""

    def fetch(folder: Path) -> None:
        _run([java("javac"), "-cp", class_path, "-d", str(folder), str(source)], f"compiling {source.name}")

    return _folder(name, source.read_bytes() + class_path.encode(), fetch)


def go_program(name: str, package: str, tags: list) -> Path:
    """The path of a program that `go install` builds from `module/package@version`, with these build tags."""
    if _which("go") is None:
        raise GatherError(f"{name} is built with Go, which is missing: install Go 1.21 or newer")

    def fetch(folder: Path) -> None:
        install = ["go", "install", "-trimpath", "-ldflags=-s -w", f"-tags={','.join(tags)}", package]
        _run(install, f"building {name}", env={**os.environ, "GOBIN": str(folder)})

    return _folder(name, f"{package} {' '.join(tags)}".encode(), fetch) / name


def promtool() -> Path:
    """The path of `promtool`, unpacked from Debian's prometheus package without installing its service."""
    path = _which("promtool")
    if path is not None:
        return Path(path)

    def fetch(folder: Path) -> None:
        if _which("apt-get") is None:
            raise GatherError("promtool is missing: install Prometheus, so that promtool is on the path")
        # Downloaded to a folder that apt's own user can write, which the cache in a home folder may not be.
        with tempfile.TemporaryDirectory() as download:
            os.chmod(download, 0o777)
            if subprocess.run(
                ["apt-get", "download", "-qq", "prometheus"], cwd=download, capture_output=True, check=False
            ).returncode:
                if os.geteuid() != 0:
                    raise GatherError("promtool is missing: sudo apt-get update, or install the package prometheus")
                _run(["apt-get", "update", "-qq"], "refreshing the package lists")
                _run(["apt-get", "download", "-qq", "prometheus"], "fetching the package prometheus", cwd=download)
            (package,) = Path(download).glob("prometheus_*.deb")
            unpacked = Path(download) / "unpacked"
            _run(["dpkg-deb", "-x", str(package), str(unpacked)], "unpacking the package prometheus")
            shutil.copy2(unpacked / "usr" / "bin" / "promtool", folder / "promtool")

    return _folder("promtool", b"promtool", fetch) / "promtool"


def _folder(name: str, recipe: bytes, fetch) -> Path:
    """The cache folder for a recipe, filled once: a fetch that breaks off leaves nothing behind."""
    folder = cache() / "servers-bin" / f"{name}-{hashlib.sha256(recipe).hexdigest()[:12]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        print(f"servers: gathering {name}", file=sys.stderr, flush=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder.parent))
        try:
            fetch(unfinished)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _maven(arguments: list, name: str) -> None:
    java("javac")
    quiet = [tool("mvn", "maven"), "-q", "-B", f"-Dmaven.repo.local={_maven_repository()}"]
    _run(quiet + arguments, f"fetching {name} with Maven")


def _maven_repository() -> Path:
    return cache() / "servers-bin" / "m2"


def _which(command: str):
    # Debian keeps brokers in sbin, which the path of an ordinary user leaves out.
    return shutil.which(command, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")


def _run(command: list, doing: str, cwd=None, env=None) -> None:
    done = subprocess.run(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if done.returncode:
        tail = done.stdout.decode(errors="replace").strip().splitlines()[-20:]
        raise GatherError("\n    ".join([f"{doing} failed (exit code {done.returncode}):", *tail]))
