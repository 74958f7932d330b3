"""The files of a persona's folder: looked at without being read, read within bounds, and written as a whole."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import stat
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from roomtone.core.errors import PersonaError

LARGEST_FILE = 256 * 1024
"""Bytes of one file: some forty thousand words."""

LARGEST = 2 * 1024 * 1024
"""Bytes of all files together."""

MOST = 500
"""Files and folders in one persona's folder."""

NO_PART = (".", "#")
"""How the names of files begin that are no part of a persona: hidden ones, and what editors put beside a file."""

NO_PART_EITHER = ("~", ".bak", ".orig", ".swp", ".tmp", ".pyc", "__pycache__")
"""How they end."""

Files = Mapping[str, bytes]
"""What is in a folder, by path in it (with slashes)."""

Look = dict[str, tuple[int, int, int]]
"""How the files of a folder stood: by path, when each was changed (ns), its bytes, its inode."""


def look(folder: Path) -> Look:
    """Return how a folder's files stand, reading none of them.

    Raises PersonaError where there is too much of them, or something that is no file.
    """
    seen: Look = {}
    for entry in _entries(folder):
        state = _state(entry)
        if state.st_size > LARGEST_FILE:
            _refuse(entry.path, f"has {_size(state.st_size)}; at most {_size(LARGEST_FILE)} are read: shorten it")
        seen[os.path.relpath(entry.path, folder)] = (state.st_mtime_ns, state.st_size, state.st_ino)
    if sum(size for _, size, _ in seen.values()) > LARGEST:
        _refuse(folder, f"its files are larger than {_size(LARGEST)} together; shorten them")
    return dict(sorted(seen.items()))


def read(folder: Path) -> dict[str, bytes]:
    """Return what is in a folder, by path. Raises PersonaError as ``look`` does, and for what cannot be read."""
    return {path: _content(folder / path) for path in look(folder)}


def fingerprint(files: Files) -> str:
    """Return the SHA-256 over paths and contents, in hexadecimal digits: what changes with every edit."""
    digest = hashlib.sha256()
    for path in sorted(files):
        for part in (path.encode("utf-8", "surrogateescape"), files[path]):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def as_json(files: Files) -> str:
    """Write files down as one JSON object: texts as they are, others as ``{"base64": ...}``."""
    return json.dumps({path: _as_text(content) for path, content in files.items()}, ensure_ascii=False)


def from_json(text: str) -> dict[str, bytes]:
    """Return the files that ``as_json`` wrote down."""
    return {
        path: content.encode() if isinstance(content, str) else base64.b64decode(content["base64"])
        for path, content in json.loads(text).items()
    }


def write(folder: Path, files: Files, *, spare: bool = False) -> None:
    """Put a folder of these files in the place of what is there, whole or not at all.

    Whoever looks while this goes on sees the one, the other, or for a moment none. With ``spare`` what was there
    stays beside it, under a name that begins with a dot. Raises PersonaError.
    """
    fresh, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")
    try:
        shutil.rmtree(fresh, ignore_errors=True)  # of a write that a power cut came into
        for path, content in files.items():
            _put(fresh / path, content)
        if os.path.lexists(folder):
            folder.rename(old)
        fresh.rename(folder)
    except OSError as error:
        if not os.path.lexists(folder) and os.path.lexists(old):
            old.rename(folder)
        raise PersonaError(
            f"{folder} cannot be written ({error.strerror}); give this user its folder: "
            f"sudo chown -R $USER {folder.parent}",
            file=str(folder),
        ) from error
    if not spare:
        old.unlink() if old.is_symlink() else shutil.rmtree(old, ignore_errors=True)


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(content)
        os.fsync(file.fileno())


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the files below a folder that are part of a persona, no matter how many there are."""
    unread, count = [str(folder)], 0
    while unread:
        for entry in _within(unread.pop()):
            if entry.name.startswith(NO_PART) or entry.name.endswith(NO_PART_EITHER):
                continue
            count += 1
            if count > MOST:
                _refuse(folder, f"holds more than {MOST} files and folders; a persona needs a dozen")
            if entry.is_dir(follow_symlinks=False):
                unread.append(entry.path)
            else:
                yield entry


def _within(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        _refuse(folder, error.strerror or "cannot be read", error)


def _state(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        state = entry.stat()
    except OSError as error:  # a link that leads nowhere, or to itself
        raise PersonaError(f"{entry.path}: {error.strerror}", file=entry.path) from error
    if stat.S_ISDIR(state.st_mode):
        _refuse(entry.path, "is a link to a folder; put a copy of the folder here")
    if not stat.S_ISREG(state.st_mode):
        _refuse(entry.path, "is no file; remove it")
    return state


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise PersonaError(f"{path}: {error.strerror}", file=str(path)) from error
    if len(content) > LARGEST_FILE:
        _refuse(path, f"is growing beyond {_size(LARGEST_FILE)}")
    return content


def _as_text(content: bytes) -> str | dict[str, str]:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode("ascii")}


def _refuse(path: str | Path, reason: str, cause: Exception | None = None) -> None:
    raise PersonaError(f"{path}: {reason}", file=str(path)) from cause


def _size(count: int) -> str:
    return f"{count / 1024**2:.0f} MB" if count >= 1024**2 else f"{count / 1024:.0f} kB"
