"""What processes take: CPU time, memory, and what they write. Linux only (/proc)."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path


def children(pid: int) -> list[int]:
    """List the processes that one has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_s(pids: list[int]) -> float:
    """Return the CPU seconds that processes have used so far, user and system."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def pss_mb(pid: int) -> float:
    """Return a process's memory in megabytes, what it shares with others shared out among them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


def alone_mb(pids: list[int]) -> float:
    """Return the megabytes that each process has of its own, and once what several have of a file."""
    own, files = 0, Counter[str]()
    for pid in pids:
        here, name, rss = Counter[str](), "", 0
        for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
            first, *rest = line.split()
            if not first.endswith(":"):
                name = " ".join(rest[4:])
            elif first == "Rss:":
                rss = int(rest[0])
            elif first == "Anonymous:":
                own += int(rest[0])
                here[name] += rss - int(rest[0])
        files |= here
    return (own + files.total()) / 1024


def written(pids: list[int]) -> int:
    """Return the bytes that processes have sent to the disk so far."""
    return sum(
        int(line.split()[1])
        for pid in pids
        for line in Path(f"/proc/{pid}/io").read_text().splitlines()
        if line.startswith("write_bytes")
    )
