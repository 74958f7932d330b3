"""A backup: one file that holds what a household has told a room, set and taught it, to be moved to another machine.

A gzipped tar (POSIX 1003.1-2001) of plain files. ``manifest.json`` comes first and says what follows: each file's
size and SHA-256. Then ``state/...`` as in the state folder, ``config/config.yaml``, ``config/credentials/NAME`` where
that was asked for, and ``personas/...`` and ``routines/...`` where the configuration keeps them outside the state
folder. Of models only the lock goes along; the databases are copied as they stood at one moment, while the daemon
writes to them.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

from roomtone import __version__, database
from roomtone.config_sources import SECRET_NAME
from roomtone.core.dialog import now
from roomtone.core.errors import BackupError, StoreError
from roomtone.durable import sync
from roomtone.hub import folder as hub
from roomtone.models import Stamp, stamp
from roomtone.settings import Device, Settings
from roomtone.store import FILE_NAME

FORMAT = 1
"""What ``restore`` of this version reads. A later one that older programs cannot read counts on."""

MANIFEST = "manifest.json"
LARGEST_MANIFEST = 32 * 1024 * 1024

MODELS_LOCK = "models/models.lock"
LEFT_OUT = ("models", "backups", "lock", "maintenance.json", "first-boot.json")
"""What of the state folder belongs to this machine, or can be had again."""

NOT_KEPT = (".", "before-restore-")
"""Nothing whose name begins so is in a backup: what is on its way, and what an earlier restore set aside."""

TRIES = 3
"""How often a backup is begun again where somebody edits a file in the middle of it."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says of itself. ``folders``: where personas and routines were that lay outside the state."""

    made: datetime
    version: str
    device: Device
    secrets: bool
    files: dict[str, Stamp]
    folders: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """What is the same for two backups of the same things, whenever they were made."""
        lines = [f"{name} {self.files[name].sha256}" for name in sorted(self.files)]
        return hashlib.sha256("\n".join([self.device.id, *lines]).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(was.size for was in self.files.values())


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that was written: where, its ``size`` in bytes, and what was not taken along (a line each)."""

    file: Path
    size: int
    manifest: Manifest
    left_out: list[str]


class Unchanged(Exception):  # no error: nothing has to be done
    """There is a backup of just this already."""


def name_for(device: str) -> str:
    """Return how a backup made now is called."""
    return f"roomtone-{device}-{now():%Y%m%d-%H%M%S}.tar.gz"


# --------------------------------------------------------------------------------------------- making


def make(
    settings: Settings,
    file: Path,
    *,
    config: Path | None = None,
    secrets: bool = False,
    unless: Callable[[str], bool] = lambda _: False,
) -> Made:
    """Write a backup of a room to ``file``, whole or not at all, readable for its owner alone (0600).

    ``config`` is the configuration's file, None where there is none. ``secrets``: with the credentials beside it.
    Raises BackupError where something cannot be read or written, and Unchanged where ``unless`` says of the digest
    that it is known.
    """
    with _said_plainly(file), tempfile.TemporaryDirectory(prefix=".roomtone-backup-", dir=file.parent) as staging:
        for _ in range(TRIES):
            left_out: list[str] = []
            parts = dict(_parts(settings, Path(staging), config, secrets, left_out))
            folders = {kind: str(folder) for kind, folder in _elsewhere(settings)}
            stamps = {name: stamp(path) for name, path in parts.items()}
            manifest = Manifest(now(), __version__, settings.device, secrets, stamps, folders)
            if unless(manifest.digest):
                raise Unchanged
            if file.exists():
                raise BackupError(f"{file} is there already; give another name", file=str(file))
            whole = Path(staging) / "whole"
            if _written(whole, manifest, parts):
                _put(whole, file)
                return Made(file, file.stat().st_size, manifest, left_out)
    raise BackupError("files change while they are copied; end who writes them, and try again")


@contextmanager
def _said_plainly(file: Path) -> Iterator[None]:
    """Let what fails be one line for a person."""
    try:
        yield
    except PermissionError as error:
        where = error.filename or file
        raise BackupError(f"{where} may not be read or written by this user; run it with sudo") from error
    except OSError as error:
        where = error.filename or file
        raise BackupError(f"the backup cannot be written: {where}: {error.strerror}; name another place") from error


def _parts(
    settings: Settings, staging: Path, config: Path | None, secrets: bool, left_out: list[str]
) -> Iterator[tuple[str, Path]]:
    """List what belongs into a backup: the name there, and the file whose bytes it is."""
    state = settings.state_dir
    databases = {path: path.name for path in (state / FILE_NAME, hub.database_path(state)) if path.is_file()}
    for path, name in databases.items():
        copy = staging / name
        copy.unlink(missing_ok=True)
        _snapshot(path, copy)
        yield f"state/{path.relative_to(state)}", copy
    beside = {path.with_name(path.name + end) for path in databases for end in ("-wal", "-shm", "-journal")}
    for path in _files(state, left_out, top=True):
        if path not in databases and path not in beside:
            yield f"state/{path.relative_to(state)}", path
    if (state / MODELS_LOCK).is_file():
        yield f"state/{MODELS_LOCK}", state / MODELS_LOCK
    for kind, folder in _elsewhere(settings):
        yield from ((f"{kind}/{path.relative_to(folder)}", path) for path in _files(folder, left_out))
    if config is not None and config.exists():
        yield "config/config.yaml", config
        if secrets:
            kept = config.parent / "credentials"
            yield from ((f"config/credentials/{path.name}", path) for path in _files(kept, left_out))


def _elsewhere(settings: Settings) -> Iterator[tuple[str, Path]]:
    """List the household's own folders that lie outside the state folder."""
    for kind, folder in (("personas", settings.personas.dir), ("routines", settings.routines.dir)):
        if folder is not None and folder.is_dir() and not folder.is_relative_to(settings.state_dir):
            yield kind, folder


def _snapshot(path: Path, copy: Path) -> None:
    try:
        database.speaking(lambda: database.snapshot(path, copy), path)()
    except StoreError as error:
        if getattr(error.__cause__, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL:  # only the copy is written
            raise BackupError(f"the disk with {copy.parent.parent} is full; name another place") from error
        raise


def _files(folder: Path, left_out: list[str], *, top: bool = False) -> Iterator[Path]:
    """List the plain files under a folder, in order. Links, and what is no file, are not followed."""
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.name.startswith(NOT_KEPT) or (top and (path.name in LEFT_OUT or ".corrupt-" in path.name)):
            continue
        kind = path.lstat().st_mode
        if stat.S_ISDIR(kind):
            yield from _files(path, left_out)
        elif stat.S_ISREG(kind):
            yield path
        elif stat.S_ISLNK(kind):
            left_out.append(f"{path} is a link, and links are not followed")


class _Counting:
    """A file that is read once, and whose SHA-256 is known afterwards."""

    def __init__(self, content: IO[bytes]) -> None:
        self._content = content
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._content.read(size)
        self.digest.update(block)
        return block


def _written(whole: Path, manifest: Manifest, parts: Mapping[str, Path]) -> bool:
    """Write the archive, and sync it; return False where a file was not any more what the manifest says."""
    with open(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6, format=tarfile.PAX_FORMAT) as tar:
            text = json.dumps(as_data(manifest), ensure_ascii=False).encode()
            tar.addfile(_member(MANIFEST, len(text), manifest.made), BytesIO(text))
            for name, path in parts.items():
                was = manifest.files[name]
                with path.open("rb") as content:
                    counting = _Counting(content)
                    if os.fstat(content.fileno()).st_size != was.size:
                        return False
                    tar.addfile(_member(name, was.size, manifest.made), cast("IO[bytes]", counting))
                    if counting.digest.hexdigest() != was.sha256:
                        return False
        out.flush()
        os.fsync(out.fileno())
    return True


def _member(name: str, size: int, made: datetime) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(made.timestamp())
    return member


def _put(whole: Path, file: Path) -> None:
    """Give a finished archive its name; where root made it for somebody, to that one."""
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        os.chown(whole, int(os.environ["SUDO_UID"]), int(os.environ.get("SUDO_GID", "-1")))
    whole.rename(file)
    sync(file.parent)


# -------------------------------------------------------------------------------------------- reading


def as_data(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest as it stands in the archive."""
    return {
        "format": FORMAT,
        "made": manifest.made.isoformat(),
        "roomtone": manifest.version,
        "device": manifest.device.model_dump(),
        "secrets": manifest.secrets,
        "folders": manifest.folders,
        "files": {name: {"size": was.size, "sha256": was.sha256} for name, was in manifest.files.items()},
    }


def read_manifest(tar: tarfile.TarFile, file: Path) -> Manifest:
    """Read the first member of an archive that was opened. Raises BackupError where it is no backup of ours."""
    first = tar.next()
    content = tar.extractfile(first) if first is not None and first.isreg() and first.name == MANIFEST else None
    if content is None or first is None or first.size > LARGEST_MANIFEST:
        raise BackupError(f"{file} is no backup of Roomtone's; give a file that roomtone backup has made")
    try:
        data = json.loads(content.read())
        if int(data["format"]) > FORMAT:
            raise BackupError(
                f"{file} was made by Roomtone {data['roomtone']}; upgrade this one ({__version__}) first"
            )
        return _manifest(data)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise BackupError(f"{file} has a manifest that cannot be read; take another backup") from error


def _manifest(data: Mapping[str, Any]) -> Manifest:
    files = {str(name): Stamp(int(was["size"]), str(was["sha256"])) for name, was in data["files"].items()}
    if any(was.size < 0 for was in files.values()):
        raise ValueError("a size below nothing")
    return Manifest(
        datetime.fromisoformat(data["made"]),
        str(data["roomtone"]),
        Device.model_validate(data["device"]),
        bool(data["secrets"]),
        files,
        {str(kind): str(folder) for kind, folder in data["folders"].items()},
    )


@contextmanager
def opened(file: Path) -> Iterator[tarfile.TarFile]:
    """Open a backup to be read from its beginning to its end; what is wrong with it is raised as BackupError."""
    try:
        with tarfile.open(file, "r|gz") as tar:
            yield tar
    except (tarfile.TarError, EOFError, UnicodeError, zlib.error) as error:
        raise BackupError(f"{file} is no backup, is damaged or was cut short; take another backup") from error
    except OSError as error:  # gzip's own among them, which has no number
        if error.errno is None:
            raise BackupError(f"{file} is damaged; take another backup") from error
        raise BackupError(f"{error.filename or file} cannot be read ({error.strerror})") from error


def bare_secrets(values: Any, path: str = "") -> Iterable[str]:
    """List the dotted keys of a configuration, as YAML gives it, at which a secret itself stands."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from bare_secrets(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, str) and SECRET_NAME.search(path.rpartition(".")[2]):
        yield from () if values.startswith(("credential:", "/")) or not values else (path,)
