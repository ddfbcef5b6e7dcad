"""CPU and memory of running processes, as the kernel counts them."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int | str) -> float:
    """User and system time of a process and all its threads; of one thread if it is `pid/task/thread`."""
    # The name in brackets may hold blanks, so fields are counted from behind it.
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def thread_seconds(pid: int) -> dict[str, float]:
    """User and system time of each thread of a process."""
    return {thread.name: cpu_seconds(f"{pid}/task/{thread.name}") for thread in Path(f"/proc/{pid}/task").iterdir()}


def peak_mb(pid: int) -> float:
    """The most memory that a process ever had resident."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def busy_seconds() -> float:
    """Time that all cores together were at work since boot."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()
    user, nice, system, _idle, _waiting, *interrupts = map(int, fields[1:8])
    return (user + nice + system + sum(interrupts)) / TICKS
