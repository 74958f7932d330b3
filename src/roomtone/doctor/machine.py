"""The machine: its clock and time zone, memory, disks, heat."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from roomtone.doctor.findings import Finding, Level
from roomtone.models import megabytes
from roomtone.settings import machine_time_zone
from roomtone.store import FILE_NAME

FIRST_YEAR = 2026
"""No clock that is right is before it: a Pi without a battery starts in 1970, or where it was last shut down."""

AHEAD_S = 3600.0
"""A store written so much later than now was written by a clock that was right, or this one is."""

DISK = (20_000_000, 500_000_000)
TMP = (1_000_000, 50_000_000)
MEMORY = (30_000_000, 150_000_000)
"""Bytes free below which nothing works, and below which it may soon not."""

HOT_C = 80.0
"""Where a Raspberry Pi begins to slow itself down (its firmware's soft limit is 80 to 85 degrees)."""

NOWHERE = ("UTC", "Etc/UTC", "Etc/UCT", "Universal", "Zulu")
"""Names of the zone in which nobody lives, and which machines have that were not told theirs."""

SYNC = "run: sudo timedatectl set-ntp true"


def clock(
    zone: str, now: datetime, state_dir: Path, timesync: Path = Path("/run/systemd/timesync")
) -> Iterator[Finding]:
    """Tell whether the clock can be right, and whose time is spoken."""
    written = _written(state_dir)
    if now.year < FIRST_YEAR:
        yield Finding("clock", "fail", f"it cannot be {now:%d %B %Y}: alarms would ring at the wrong time", SYNC)
    elif written is not None and written - now.timestamp() > AHEAD_S:
        last = datetime.fromtimestamp(written, now.tzinfo)
        said = f"it is {now:%d %B %Y %H:%M}, but the store was written at {last:%d %B %Y %H:%M}"
        yield Finding("clock", "warn", said, SYNC)
    elif timesync.is_dir() and not (timesync / "synchronized").exists():
        yield Finding("clock", "warn", f"{now:%H:%M} is not from a time server yet", SYNC)
    else:
        yield Finding("clock", "ok", f"it is {now:%H:%M} on {now:%d %B %Y} in {zone}")
    if zone in NOWHERE:
        said = "the time zone is UTC, which few households live in"
        yield Finding("clock", "warn", said, "run: sudo timedatectl set-timezone Europe/Berlin (or yours)")
    elif zone != machine_time_zone():
        yield Finding("clock", "ok", f"the machine's own time zone is {machine_time_zone()}; {zone} is spoken")


def _written(state_dir: Path) -> float | None:
    file = state_dir / FILE_NAME
    return file.stat().st_mtime if file.is_file() else None


def look(state_dir: Path) -> Iterator[Finding]:
    """Tell how much room and memory is left, and how hot the processor is."""
    yield from disks(nearest(state_dir), Path("/tmp"))  # noqa: S108
    yield from memory(Path("/proc/meminfo"))
    yield from heat(Path("/sys/class/thermal/thermal_zone0/temp"))


def disks(state: Path, temporary: Path) -> Iterator[Finding]:
    """Tell how much room is left for the state, and for what is passing where that lies on another disk."""
    yield from room("disk", state, DISK, "make room, for example: sudo apt clean")
    if _disk(temporary) != _disk(state):
        yield from room("disk", temporary, TMP, f"make room there: sudo du -ah {temporary} | sort -h | tail")


def _disk(folder: Path) -> int | None:
    try:
        return folder.stat().st_dev
    except OSError:
        return None


def nearest(folder: Path) -> Path:
    """Return a folder, or the first thing above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))


def room(subject: str, folder: Path, bounds: tuple[int, int], mend: str) -> Iterator[Finding]:
    """Tell how much room is left where a folder is."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Finding(subject, "warn", f"{folder} cannot be looked at ({error.strerror})")
        return
    level = _level(free, bounds)
    yield Finding(subject, level, f"{megabytes(free)} are free in {folder}", mend if level != "ok" else None)


def memory(file: Path) -> Iterator[Finding]:
    """Tell how much memory programs can still have (kernel documentation, filesystems/proc: MemAvailable)."""
    try:
        lines = dict(line.split(":", 1) for line in file.read_text("ascii").splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, LookupError):
        return
    level = _level(free, MEMORY)
    mend = "use a smaller model: roomtone models list" if level != "ok" else None
    yield Finding("memory", level, f"{megabytes(free)} are free", mend)


def heat(file: Path) -> Iterator[Finding]:
    """Tell how hot the processor is, where the machine says."""
    try:
        degrees = int(file.read_text("ascii")) / 1000
    except (OSError, ValueError):
        return
    if degrees >= HOT_C:
        yield Finding("heat", "warn", f"{degrees:.0f} degrees: the processor slows itself down", "give it a fan")
    else:
        yield Finding("heat", "ok", f"{degrees:.0f} degrees")


def _level(free: int, bounds: tuple[int, int]) -> Level:
    return "fail" if free < bounds[0] else "warn" if free < bounds[1] else "ok"


def usable(folder: Path) -> bool:
    """Tell whether this user may write in a folder, or make it."""
    there = nearest(folder)
    return there.is_dir() and os.access(there, os.R_OK | os.W_OK | os.X_OK)
