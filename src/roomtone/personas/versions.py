"""Which personas were ever active, by what was in their folders, and who spoke since when and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from roomtone.clock import utc_now
from roomtone.core.dialog import Source
from roomtone.core.errors import PersonaError, PersonaNotFound
from roomtone.core.persona import Persona
from roomtone.database import Statement
from roomtone.flow import worker
from roomtone.personas import ID, Library
from roomtone.personas import files as persona_files
from roomtone.personas.files import Files
from roomtone.store import Store, keeping

IN_USE = "persona"
"""The key under which the store keeps who speaks, with the room: ``persona/<room>`` would be somebody's notebook."""

BROKEN = "(broken)"
"""What stands as the version of files that were never a persona: those that a rollback took the place of."""

SHOWN = 8
"""Digits of a version's hash that are shown to a person; four are understood."""

SHORTEST = 4


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch as it is recorded: in which room, from whom to whom, what asked for it, and milliseconds it took."""

    room: str
    earlier: str
    persona: Persona
    source: Source
    cause: str
    took_ms: float


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a persona that is kept: the hash of its files, its own number, since and until when it spoke."""

    content: str
    persona: str
    version: str
    since: datetime
    last_used: datetime


async def keep_switch(store: Store, library: Library, switch: Switch) -> None:
    """Keep a switch, who speaks from now on, and the version, in one commit on the disk. Raises StoreError."""
    persona = switch.persona
    row = (utc_now().isoformat(), switch.room, switch.earlier, persona.id, persona.content)
    insert = "INSERT INTO persona_switches (at, room, earlier, persona, content, source, cause, took_ms)"
    await store.write(
        keeping(IN_USE, persona.id),
        (f"{insert} VALUES (?,?,?,?,?,?,?,?)", (*row, switch.source, switch.cause, switch.took_ms)),
        _active(persona, library.files(persona)),
        durable=True,
    )


async def keep_version(store: Store, library: Library, persona: Persona) -> None:
    """Keep the version of a persona that speaks from now on. Raises StoreError."""
    await store.write(_active(persona, library.files(persona)))


async def in_use(store: Store) -> str | None:
    """Return who spoke last, None where nobody was ever switched to. Raises StoreError."""
    kept = await store.kept(IN_USE)
    return kept if isinstance(kept, str) else None


async def versions(store: Store, persona: str) -> list[Version]:
    """Return the versions of a persona that were ever active, the one that was used last first. Raises StoreError."""
    columns = "content, persona, version, since, last_used"
    where = "persona = ? ORDER BY last_used DESC, since DESC"
    return [
        _version(dict(row))
        for row in await store.read(f"SELECT {columns} FROM persona_versions WHERE {where}", persona)
    ]


async def switches(store: Store, persona: str, limit: int = 20) -> list[dict[str, Any]]:
    """Return the last switches to a persona and away from it, the newest first. Raises StoreError."""
    query = "SELECT * FROM persona_switches WHERE ? IN (persona, earlier) ORDER BY id DESC LIMIT ?"
    return [dict(row) for row in await store.read(query, persona, limit)]


async def roll_back(store: Store, library: Library, persona: str, content: str | None = None) -> tuple[Version, Path]:
    """Put a version of a persona back into the household's folder, never into that of Roomtone's own.

    ``content`` is its hash or the beginning of it; None is the version that was used last before the one that is
    there. What was there is kept as a version, whole or broken, before anything is written; where it cannot even be
    read, under another name beside it. Returns the version and the folder. Raises PersonaNotFound where there is no
    such version, PersonaError where it cannot be written, StoreError.
    """
    if not ID.fullmatch(persona):
        library.folder(persona)  # raises what is wrong with it
    folder = library.folders[0] / persona
    there = _there(library, persona)
    hash_ = persona_files.fingerprint(there) if there is not None else None
    version = _chosen(await versions(store, persona), persona, content, hash_)
    if there is not None and hash_ is not None:
        await store.write(_kept(persona, hash_, _version_of(library, persona), there), durable=True)
    await _put(store, version, folder, spare=there is None)
    return version, folder


async def as_used_last(store: Store, persona: str, place: Path) -> Library:
    """Write the version of a persona that spoke last into an empty folder; return what reads it there.

    Raises PersonaNotFound where none is kept, PersonaError where it cannot be written, StoreError.
    """
    version = _chosen(await versions(store, persona), persona, None, None)
    await _put(store, version, place / persona)
    return Library([place])


def _there(library: Library, persona: str) -> Files | None:
    """Return the files that a persona has now; None where it has none or they cannot be read."""
    try:
        return persona_files.read(library.folder(persona))
    except PersonaError:
        return None


def _version_of(library: Library, persona: str) -> str:
    try:
        return library.load(persona).version
    except PersonaError:
        return BROKEN


def _chosen(known: list[Version], persona: str, content: str | None, present: str | None) -> Version:
    if not known:
        raise PersonaNotFound(f"no version of '{persona}' is kept: it never spoke here", persona=persona)
    if content is None:
        found = [each for each in known if each.content != present and each.version != BROKEN][:1]
        if not found:
            raise PersonaNotFound(f"'{persona}' has no earlier version to go back to", persona=persona)
        return found[0]
    found = [each for each in known if len(content) >= SHORTEST and each.content.startswith(content.lower())]
    if len(found) != 1:
        which = "several versions" if found else "no version"
        known_as = ", ".join(each.content[:SHOWN] for each in known)
        raise PersonaNotFound(f"there is {which} '{content}' of '{persona}'; choose of {known_as}", persona=persona)
    return found[0]


async def _put(store: Store, version: Version, folder: Path, *, spare: bool = False) -> None:
    files = await _files(store, version)
    with worker("persona files") as thread:  # it waits for the disk, and somebody may be talking
        await thread.call(partial(persona_files.write, folder, files, spare=spare))


async def _files(store: Store, version: Version) -> dict[str, bytes]:
    key = (version.persona, version.content)
    [row] = await store.read("SELECT files FROM persona_versions WHERE persona = ? AND content = ?", *key)
    return persona_files.from_json(row["files"])


def _active(persona: Persona, files: Files | None) -> Statement:
    """Return what notes that a version speaks now. Files that changed meanwhile were never those of this version."""
    if files is None:
        key = (utc_now().isoformat(), persona.id, persona.content)
        return "UPDATE persona_versions SET last_used = ? WHERE persona = ? AND content = ?", key
    insert, row = _kept(persona.id, persona.content, persona.version, files)
    return insert.replace("NOTHING", "UPDATE SET last_used = excluded.last_used"), row


def _kept(persona: str, content: str, version: str, files: Files) -> tuple[str, tuple[Any, ...]]:
    at = utc_now().isoformat()
    insert = "INSERT INTO persona_versions (content, persona, version, since, last_used, files)"
    row = (content, persona, version, at, at, persona_files.as_json(files))
    return f"{insert} VALUES (?,?,?,?,?,?) ON CONFLICT DO NOTHING", row


def _version(row: Mapping[str, Any]) -> Version:
    times = {key: datetime.fromisoformat(row[key]) for key in ("since", "last_used")}
    return Version(row["content"], row["persona"], row["version"], **times)
