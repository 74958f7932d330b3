"""A backup taken in, on the machine it was made on or on another: checked whole before anything is touched.

What was there goes aside (see ``state_swap``). A backup holds what was, and the house went on since: a restored hub
or room begins without the handoffs and messages that were under way, lest something be said twice.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
import re
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

import yaml

from roomtone import config as configuration
from roomtone import models
from roomtone.core.dialog import now
from roomtone.core.errors import BackupError, ConfigError, StoreError
from roomtone.durable import write_durably
from roomtone.hub import database as hub_database
from roomtone.migrations import STEPS, Steps, migrate
from roomtone.settings import SERVICE_STATE, as_id
from roomtone.state_swap import KEPT_AS, NEW, PREPARING, acting_as, decide, finish
from roomtone.store import FILE_NAME
from roomtone.upkeep.backup import MANIFEST, MODELS_LOCK, Manifest, opened, read_manifest

BLOCK = 1024 * 1024

PLACES = ("state", "config", "personas", "routines")
"""How the names of a backup's files begin."""

_CREDENTIAL = re.compile(r"credential:\s*([A-Za-z0-9_.-]+)")
_UNDER_WAY = {
    FILE_NAME: ("outbox",),
    hub_database.FILE_NAME: ("sessions", "handoffs", "asked"),
}
"""Tables of what was on its way when the backup was made, and has arrived since or is owed to nobody any more."""

_ANOTHER = (
    "DELETE FROM timers",
    "DELETE FROM holds",
    "DELETE FROM moves",
    "DELETE FROM kept WHERE key LIKE 'quiet/%'",
    "UPDATE sessions SET ended = :now WHERE ended IS NULL",
    "UPDATE turns SET closed = 1",
)
"""What a second room must not have of the first: what would ring or be said twice, and conversations of its own."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a backup is taken in: the state folder, and the file of the configuration.

    ``owner``: user and group whose the state is to be, None to leave it to who runs this.
    """

    state_dir: Path
    config: Path
    owner: tuple[int, int] | None = None


@dataclass(slots=True)
class Prepared:
    """A backup that was unpacked and found whole: ``folder`` holds ``new`` (the state), ``apart`` all else.

    ``outside``: what was unpacked and belongs outside the state folder, and its place. ``lines``: what its owner
    should know.
    """

    folder: Path
    apart: Path
    manifest: Manifest
    target: Target
    outside: list[tuple[Path, Path]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


def target_for(state_dir: Path, config: Path) -> Target:
    """Return where to restore to; what root restores belongs to who had the state before, or to the service."""
    if os.geteuid() != 0:
        return Target(state_dir, config)
    if state_dir.exists():
        had = state_dir.stat()
        return Target(state_dir, config, (had.st_uid, had.st_gid))
    try:
        user = pwd.getpwnam("roomtone") if state_dir == SERVICE_STATE else None
    except KeyError:
        user = None
    return Target(state_dir, config, (user.pw_uid, user.pw_gid) if user else None)


# ------------------------------------------------------------------------------------------ preparing


def prepare(
    file: Path, folder: Path, target: Target, as_new: str | None = None, apart: Path | None = None
) -> Prepared:
    """Unpack a backup into a folder beside the state, and make it ready to take the state's place.

    ``as_new``: the name of another room that begins with it, beside the one it is of. ``apart``: a folder for what
    does not belong to the state's owner, who could change it while root reads it; None for ``folder``. Raises
    BackupError, ConfigError and StoreError; nothing but these folders was written to then.
    """
    apart = apart or folder
    with opened(file) as tar:
        manifest = read_manifest(tar, file)
        _need_room(folder, manifest.size)
        try:
            _unpack(tar, Prepared(folder, apart, manifest, target), file)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise BackupError(f"the disk with {folder.parent} is full; make room there") from error
            raise
    prepared = Prepared(folder, apart, manifest, target)
    with acting_as(target.owner):
        (folder / NEW).mkdir(exist_ok=True)
        _migrate(folder / NEW / FILE_NAME, STEPS, file)
        _migrate(folder / NEW / "hub" / hub_database.FILE_NAME, hub_database.STEPS, file)
    if as_new is None:
        _as_the_same(prepared)
    else:
        _as_another(prepared, as_new)
    _check_config(prepared)
    _check_places(prepared)
    return prepared


def _need_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + models.SPARE_BYTES:
        need = models.megabytes(size + models.SPARE_BYTES - free)
        raise BackupError(f"the disk with {folder.parent} lacks {need} for what is in the backup; make room there")


def _unpack(tar: tarfile.TarFile, prepared: Prepared, file: Path) -> None:
    """Write each file that the manifest names, and nothing else, where it belongs."""
    missing = dict(prepared.manifest.files)
    for member in tar:
        if member.name == MANIFEST:
            continue
        was = missing.pop(member.name, None)
        content = tar.extractfile(member) if member.isreg() else None
        if was is None or content is None or member.size != was.size:
            raise BackupError(f"{file} holds '{member.name[:100]}', which its manifest does not; take another backup")
        place = _place(member.name, file)
        if place.parts[0] == NEW:
            with acting_as(prepared.target.owner):
                digest = _copied(content, prepared.folder / place)
        else:
            digest = _copied(content, prepared.apart / place)
        if digest != was.sha256:
            raise BackupError(f"{file} is damaged: {member.name} is not what was put in; take another backup")
    if missing:
        raise BackupError(f"{file} is incomplete: {min(missing)} is missing; take another backup")


def _copied(content: IO[bytes], place: Path) -> str:
    """Write a file that is not there yet; return its SHA-256 in hex."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    with open(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while block := content.read(BLOCK):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _place(name: str, file: Path) -> Path:
    """Return where a file of a backup is unpacked. Raises BackupError for a name that leads elsewhere."""
    parts = PurePosixPath(name).parts
    plain = not any(part in ("..", "/") or "\0" in part for part in parts)
    if not plain or len(parts) < 2 or parts[0] not in PLACES:
        raise BackupError(f"{file} holds '{name[:100]}', which belongs nowhere; this is no backup of Roomtone's")
    return Path(NEW, *parts[1:]) if parts[0] == "state" else Path(*parts)


def _migrate(path: Path, steps: Steps, file: Path) -> None:
    """Bring an unpacked database to this program's schema, and take what was under way out of it."""
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            wrong = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if wrong != "ok":
                raise BackupError(f"{file} holds a damaged database ({' '.join(str(wrong).split())}); take another")
            migrate(connection, steps)
            for table in _UNDER_WAY[path.name]:
                connection.execute(f"DELETE FROM {table}")
    except StoreError as error:
        raise BackupError(f"{file} was made by a newer Roomtone; upgrade this one first", **error.details) from error
    except sqlite3.Error as error:
        raise BackupError(f"{file} holds a database that cannot be read ({error}); take another backup") from error


# ------------------------------------------------------------------------------------------- identity


def _as_the_same(prepared: Prepared) -> None:
    """Let this machine be the device that the backup is of, whatever this machine is called."""
    device = prepared.manifest.device
    edit_config(prepared.apart / "config" / "config.yaml", {"id": device.id})
    prepared.lines.append(
        f"this machine is '{device.id}' now; if another one still is, switch that off for good: "
        "two of one name push each other out of the house"
    )


def _as_another(prepared: Prepared, name: str) -> None:
    """Let this machine be another room, which only knows what the first one knew."""
    id_ = as_id(name)
    first = prepared.manifest.device.id
    if id_ in ("", first):
        raise BackupError(f"'{name}' cannot be a new room's name; choose one that is not {first}")
    edit_config(prepared.apart / "config" / "config.yaml", {"id": id_, "name": name})
    with acting_as(prepared.target.owner):
        had_hub = _forget_the_first(prepared.folder / NEW)
    prepared.lines.append(
        f"this machine is '{id_}' now, a room beside '{first}', without its timers; "
        "say in the configuration where it stands (device.room)"
    )
    if had_hub:
        prepared.lines.append("let it into the house: at the hub, run: roomtone hub enroll; here: roomtone hub join")


def _forget_the_first(new: Path) -> bool:
    """Take out of an unpacked state what a second room must not have; return whether it had a place in a house."""
    had_hub = (new / "hub").exists()
    shutil.rmtree(new / "hub", ignore_errors=True)
    (new / configuration.LAST_GOOD).unlink(missing_ok=True)
    if (new / FILE_NAME).exists():
        with closing(sqlite3.connect(new / FILE_NAME)) as connection, connection:
            for statement in _ANOTHER:
                connection.execute(statement, {"now": now().isoformat()} if ":now" in statement else {})
    return had_hub


def edit_config(file: Path, values: dict[str, str]) -> None:
    """Set keys of ``device`` in a configuration, and leave every other byte of it as it is."""
    text = file.read_text("utf-8") if file.exists() else ""
    for key, value in values.items():
        text = _with_device(text, key, yaml.safe_dump(value).removesuffix("...\n").strip())
    file.parent.mkdir(exist_ok=True, mode=0o700)
    write_durably(file, text.encode())


def _with_device(text: str, key: str, value: str) -> str:
    root = yaml.compose(text, yaml.SafeLoader)
    top = {name.value: (name, node) for name, node in root.value} if isinstance(root, yaml.MappingNode) else {}
    if "device" not in top:
        gap = "" if not text or text.endswith("\n") else "\n"
        if isinstance(root, yaml.MappingNode) and root.flow_style:
            inside = root.start_mark.index + 1
            return f"{text[:inside]}device: {{{key}: {value}}}, {text[inside:]}"
        return f"{text}{gap}device:\n  {key}: {value}\n"
    name, device = top["device"]
    if not isinstance(device, yaml.MappingNode):  # `device:` with nothing in it
        end = device.end_mark.index if device.value else name.end_mark.index + 1
        return f"{text[: name.end_mark.index]}: {{{key}: {value}}}{text[end:]}"
    for child, node in device.value:
        if child.value == key:
            return f"{text[: node.start_mark.index]}{value}{text[node.end_mark.index :]}"
    start = device.start_mark
    if device.flow_style:
        return f"{text[: start.index + 1]}{key}: {value}, {text[start.index + 1 :]}"
    return f"{text[: start.index]}{key}: {value}\n{' ' * start.column}{text[start.index :]}"


# ------------------------------------------------------------------------------------------- checking


def _check_config(prepared: Prepared) -> None:
    """Note what of the configuration does not fit this machine. Raises BackupError where its state is elsewhere."""
    file, target = prepared.apart / "config" / "config.yaml", prepared.target
    try:
        values = yaml.safe_load(file.read_text("utf-8"))
    except (ValueError, yaml.YAMLError):
        values = None
    elsewhere = values.get("state_dir") if isinstance(values, dict) else None
    if elsewhere is not None and Path(str(elsewhere)).expanduser() != target.state_dir:
        raise BackupError(f"the backup's configuration keeps its state in {elsewhere}; add: --state-dir {elsewhere}")
    kept = target.config.parent / "credentials"
    for name in sorted(set(_CREDENTIAL.findall(file.read_text("utf-8", "replace")))):
        if not (prepared.apart / "config" / "credentials" / name).exists() and not (kept / name).exists():
            prepared.lines.append(f"put the credential '{name}' in again: sudo install -m 600 FILE {kept / name}")
    try:
        configuration.load(file)
    except ConfigError as error:
        mistakes = [line for line in error.details["mistakes"] if "credential" not in line]
        prepared.lines += [line.replace(str(file), str(target.config)) for line in mistakes]


def _check_places(prepared: Prepared) -> None:
    """Raise BackupError where something outside the state folder could not be put in its place."""
    prepared.outside.extend(_outside(prepared))
    for _, place in prepared.outside:
        near = next(folder for folder in place.parents if folder.exists())
        if not os.access(near, os.W_OK | os.X_OK):
            raise BackupError(f"{place} may not be written by this user; run it with sudo")


def _outside(prepared: Prepared) -> Iterator[tuple[Path, Path]]:
    """List what belongs outside the state folder: what was unpacked, and its place."""
    own, home = prepared.apart / "config", prepared.target.config.parent
    yield own / "config.yaml", prepared.target.config
    for path in sorted((own / "credentials").glob("*")):
        yield path, home / "credentials" / path.name
    for kind, told in prepared.manifest.folders.items():
        folder = Path(told)
        if kind not in ("personas", "routines") or not (prepared.apart / kind).is_dir():
            continue
        # A path in a backup is others' word: as root it must not reach what is not Roomtone's.
        if ".." in folder.parts or not folder.is_relative_to(home):
            prepared.lines.append(f"{kind} were in {folder}; they are in {home / kind} now: set {kind}.dir to that")
            folder = home / kind
        yield prepared.apart / kind, folder


# ------------------------------------------------------------------------------------- put in its place


def put_in_place(prepared: Prepared) -> list[str]:
    """Let the backup take the place of what is there; return what its owner should know.

    Nobody else may have the state open. Raises OSError: before the state was touched, or, for what lies outside it,
    after; the same restore may be begun again then.
    """
    target, stamp = prepared.target, f"{now():%Y%m%dT%H%M%SZ}"
    ready = [(_brought(unpacked, place, target), place) for unpacked, place in prepared.outside]
    _own(target)
    with acting_as(target.owner):
        _place_lock(prepared.folder / NEW, target.state_dir)
        decide(target.state_dir, prepared.folder, stamp)
        aside = finish(target.state_dir)
    for fresh, place in ready:
        if place.exists():
            place.rename(place.with_name(f"{place.name}.{KEPT_AS}{stamp}"))
        fresh.rename(place)
    kept = [f"what was there is kept; delete it when all is well: sudo rm -r {aside}"] if aside else []
    return [*prepared.lines, *kept, *_models_to_fetch(target.state_dir)]


def _place_lock(new: Path, state_dir: Path) -> None:
    """Let the lock of the backup's models count where this machine has none."""
    lock = new / MODELS_LOCK
    if (state_dir / MODELS_LOCK).exists():
        lock.unlink(missing_ok=True)
    elif lock.exists():
        (state_dir / "models").mkdir(mode=0o700, exist_ok=True)
        lock.rename(state_dir / MODELS_LOCK)
    shutil.rmtree(new / "models", ignore_errors=True)


def _brought(unpacked: Path, place: Path, target: Target) -> Path:
    """Copy something to the file system where its place is, under a name that nobody reads."""
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    fresh = place.with_name(f".{place.name}{PREPARING}new")
    if unpacked.is_dir():
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.copytree(unpacked, fresh)
        for path in (fresh, *fresh.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return fresh
    secret = place.parent.name == "credentials"
    write_durably(fresh, unpacked.read_bytes(), 0o600 if secret or target.owner is None else 0o640)
    if target.owner is not None and not secret:
        os.chown(fresh, 0, target.owner[1])
    if secret:
        place.parent.chmod(0o700)
    return fresh


def _own(target: Target) -> None:
    """Give the state folder, and what root may have left in it, to who has the state; through no link."""
    if target.owner is None:
        return
    for _, folders, files, handle in os.fwalk(target.state_dir):
        os.chown(handle, *target.owner)
        for name in (*folders, *files):
            os.chown(name, *target.owner, dir_fd=handle, follow_symlinks=False)


def _models_to_fetch(state_dir: Path) -> Sequence[str]:
    folder = state_dir / "models"
    here = {models.typed(kind, name) for kind in models.KINDS for name in models.installed(kind, folder)}
    lacking = sorted(name for name in models.pins(folder) if name not in here)
    fetch = f"models are not in a backup; fetch them again: roomtone models pull {' '.join(lacking)}"
    return [fetch] if lacking else []
