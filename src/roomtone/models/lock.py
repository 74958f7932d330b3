"""The lock: one file in the models folder that pins what was put there, by size and SHA-256 of each file.

    {"v": 1, "models": {"whisper-base.en": {"source": "OWNER/NAME@COMMIT", "files": {"model.bin": {"size": 1, ...}}}}}

Copied into the models folder of another machine it makes that one fetch the same bytes. ``spoilt`` is noted in it of
a model whose bytes were found to be others than those pinned: such a model is not opened.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from roomtone.durable import sync
from roomtone.models.kinds import typed

log = logging.getLogger(__name__)

LOCK, BROKEN = "models.lock", "models.lock.broken"
VERSION = 1
LARGEST = 1_000_000
"""Bytes. A model takes half a kilobyte; what is larger is no lock."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a file was when it was put there: ``size`` in bytes, ``sha256`` in hex."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Pin:
    """Where a model came from (``source``), and what its files were; ``spoilt``: what was found wrong since."""

    source: str
    files: dict[str, Stamp]
    spoilt: str | None = None


def stamp(file: Path) -> Stamp:
    """Read a file and return its size and SHA-256."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256")
        return Stamp(content.tell(), digest.hexdigest())


def pinned(kind: str, name: str, models: Path) -> Pin | None:
    """Return what is pinned of a model; None where nothing is."""
    return pins(models).get(typed(kind, name))


def pins(models: Path) -> dict[str, Pin]:
    """Return all that is pinned, by the names people type; nothing where the lock cannot be read."""
    return _read(models / LOCK) or {}


def read_lock(content: bytes) -> dict[str, Pin] | None:
    """Return what a lock's content pins; None where it is no lock. A pin that is none is left out."""
    try:
        told = json.loads(content)["models"].items()
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    read = {str(name): _pin(pin) for name, pin in told}
    return {name: pin for name, pin in read.items() if pin is not None}


def _pin(told: Any) -> Pin | None:
    try:
        files = {str(file): Stamp(int(was["size"]), str(was["sha256"])) for file, was in told["files"].items()}
        spoilt = str(told["spoilt"]) if told.get("spoilt") else None
        return Pin(str(told["source"]), files, spoilt)
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _read(file: Path) -> dict[str, Pin] | None:
    try:
        return read_lock(file.read_bytes()) if file.stat().st_size <= LARGEST else None
    except OSError:
        return None


# ------------------------------------------------------------------------------------------- changing


def pin(kind: str, name: str, models: Path, made: Pin | None) -> None:
    """Pin a model, or with None take its pin out. Raises OSError."""
    with _changing(models) as held:
        if made is None:
            held.pop(typed(kind, name), None)
        else:
            held[typed(kind, name)] = made


def mark(kind: str, name: str, models: Path, spoilt: str | None) -> None:
    """Note of a pinned model that it is spoilt, or with None that it is whole; writes nothing new: nothing."""
    was = pinned(kind, name, models)
    if was is not None and was.spoilt != spoilt:
        pin(kind, name, models, replace(was, spoilt=spoilt))


@contextmanager
def _changing(models: Path) -> Iterator[dict[str, Pin]]:
    """Let all pins be changed by one process at a time; the file is whole at any moment."""
    guard = os.open(models, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        file = models / LOCK
        held = _read(file)
        if held is None and file.exists():
            file.replace(models / BROKEN)
            log.warning("%s could not be read and is now %s; what was pinned in it is not", file, BROKEN)
        held = held or {}
        yield held
        _write(file, held)
        sync(models)
    finally:
        os.close(guard)


def _write(file: Path, held: dict[str, Pin]) -> None:
    told = {name: _told(held[name]) for name in sorted(held)}
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(json.dumps({"v": VERSION, "models": told}, indent=1) + "\n", "utf-8")
    sync(fresh)
    fresh.replace(file)


def _told(pin: Pin) -> dict[str, Any]:
    files = {name: {"size": was.size, "sha256": was.sha256} for name, was in pin.files.items()}
    return {"source": pin.source, "files": files, **({"spoilt": pin.spoilt} if pin.spoilt else {})}
