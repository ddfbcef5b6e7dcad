"""One set of running servers: their folder, their processes, their ports."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from . import ready

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
N_STARTS = 3
# Below the range that Linux hands to outgoing connections, so that none of them takes a port before its server does.
PORTS = range(20000, 32000)


class StartError(Exception):
    """A server did not come up; the text ends with the tail of its log."""


class Instance:
    """The servers whose state lives in one folder. All changes to it happen under its lock."""

    def __init__(self, folder: Path, servers: list):
        self.folder = folder
        self.servers = {server.name: server for server in servers}

    @contextlib.contextmanager
    def locked(self):
        """Keeps a second `up` or `down` of the same folder waiting."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / "lock", "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def start(self, names: list) -> None:
        """Starts the named servers that do not run, all at once, and waits until each one serves."""
        started = []
        try:
            for name in names:
                if not self.running(name):
                    started.append((name, self._spawn(name)))
            for name, process in started:
                self._wait(name, process)
        except BaseException:
            for name, _ in started:
                self.stop(name)
            raise

    def stop(self, name: str, with_signal: int = signal.SIGTERM) -> bool:
        """Stops one server if the recorded process is still that process; false if there was nothing to stop."""
        if not self.running(name):
            return False
        pid = self.record()[name]["pid"]
        os.kill(pid, with_signal)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.running(name):
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                deadline += STOP_TIMEOUT_S
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
        return True

    def remove(self) -> None:
        """Deletes the data of the stopped servers and forgets them; their logs stay until the next start."""
        for name in self.record():
            for path in (self.folder / name).iterdir():
                if path.name != "log":
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        (self.folder / "state.json").unlink(missing_ok=True)

    def running(self, name: str) -> bool:
        """Whether the process recorded for a server lives and is the one that was started."""
        entry = self.record().get(name)
        return entry is not None and _birth(entry["pid"]) == entry["birth"]

    def probe(self, name: str) -> None:
        """Asks a server whether it serves; raises `ready.NotReady` if not."""
        if not self.running(name):
            raise ready.NotReady("its process is gone")
        self.servers[name].probe(self.folder / name, self.record()[name]["ports"])

    def exports(self) -> dict:
        """The variables that tell tests where the started servers are."""
        variables = {}
        for name, entry in self.record().items():
            variables.update(self.servers[name].exports(self.folder / name, entry["ports"]))
        return variables

    def record(self) -> dict:
        """What was started: by server its process, the process's birth and its ports."""
        try:
            return json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def _spawn(self, name: str, ports=None) -> subprocess.Popen:
        server, home = self.servers[name], self.folder / name
        home.mkdir(exist_ok=True)
        known = self.record().get(name)
        if ports is None and known is not None:
            ports = known["ports"]
        else:
            (home / "log").unlink(missing_ok=True)
            ports = ports or _free_ports(server.ports)
        command = server.prepare(home, ports)
        with open(home / "log", "ab") as log:
            process = subprocess.Popen(
                command, cwd=home, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        entry = {"pid": process.pid, "birth": _birth(process.pid), "ports": ports}
        self._write({**self.record(), name: entry})
        return process

    def _wait(self, name: str, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        n_starts = 1
        while True:
            try:
                self.probe(name)
                return
            except ready.NotReady as error:
                reason = str(error)
            if process.poll() is not None:
                if n_starts == N_STARTS or not self._port_was_taken(name):
                    raise self._failure(name, f"exited with code {process.returncode}")
                n_starts += 1
                process = self._spawn(name, _free_ports(self.servers[name].ports))
            elif time.monotonic() > deadline:
                raise self._failure(name, f"did not serve within {READY_TIMEOUT_S:.0f} s ({reason})")
            time.sleep(0.1)

    def _port_was_taken(self, name: str) -> bool:
        return "in use" in (self.folder / name / "log").read_text(errors="replace").lower()

    def _failure(self, name: str, what: str) -> StartError:
        log = self.folder / name / "log"
        tail = log.read_text(errors="replace").splitlines()[-30:]
        return StartError("\n    ".join([f"{name} {what}; the end of {log}:", *tail]))

    def _write(self, record: dict) -> None:
        unfinished = self.folder / "state.json.new"
        unfinished.write_text(json.dumps(record, indent=1), encoding="utf-8")
        unfinished.replace(self.folder / "state.json")


def _birth(pid: int):
    """When a process started, in clock ticks since boot; None if it is gone or only a zombie."""
    try:
        # The program's name may hold blanks and brackets, so count fields from behind its last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _free_ports(names: tuple) -> dict:
    chosen = {}
    while len(chosen) < len(names):
        port = random.choice(PORTS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in chosen.values():
            chosen[names[len(chosen)]] = port
    return chosen
