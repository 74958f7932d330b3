"""Personas: a folder each, read into who the room speaks as.

A persona's folder, of which only the first two files are needed:

    config.yaml               the keys of ``core.persona.Persona`` that no other file gives
    system_prompt.md          who it is, for a language model; ``mind.prompt`` says what $placeholders there are
    examples/*.json           exchanges as it would have them, in each file one or a list:
                              {"user_message": "...", "assistant_response": "...", "context": "..."}
    knowledge/*.md            notes of its own, for adaptation_mode instruction_rag
    jokes.<language>.yaml     a list of texts
    phrases.<language>.yaml   its own words for what the room says (keys of ``say:`` in mind/<language>.yaml), and
                              ``greeting`` for when it is called
    skills/<name>/            skills of its own (see ``mind.skills``)

Every mistake in it is told with file, key and reason.
"""

from __future__ import annotations

import difflib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roomtone.core.errors import ConfigError, PersonaError, PersonaNotFound
from roomtone.core.persona import Persona
from roomtone.mind.sentences import Skills
from roomtone.personas import files as persona_files
from roomtone.personas.files import Files, Look
from roomtone.personas.reading import parse

SKILLS = "skills"
"""The folder of a persona in which its own skills are."""

ID = re.compile(r"[a-z0-9_-]{1,64}")

NAMED = 12
"""Of more personas not all are named where one is not found."""

FRESH_NS = 100_000_000
"""A file that was changed so short a time ago may change again and look the same: kernels stamp every few ms."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What a folder was read as when it stood as it was ``seen``; of one that is broken, ``error`` says why."""

    seen: Look
    persona: Persona | None = None
    files: Files | None = None
    error: PersonaError | None = None


class Library:
    """The personas of a household: its own ``folders`` first, then those that came with Roomtone.

    A folder of an earlier place hides one of the same id in a later place. What was read is kept until a file
    changes.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        self._read: dict[Path, _Read] = {}

    def ids(self) -> list[str]:
        """List the personas by id, whether or not they can be loaded."""
        return sorted({each for folder in self.folders for each in ids(folder)})

    def folder(self, persona: str) -> Path:
        """Return a persona's folder. Raises PersonaNotFound, also for what is no id."""
        if not ID.fullmatch(persona) and persona not in self.ids():
            raise PersonaNotFound(
                f"'{persona[:80]}' is no persona's id: that is 1 to 64 of a-z, 0-9, _ and -; "
                "see: roomtone personas list",
                persona=persona,
            )
        for place in self.folders:
            if (place / persona).is_dir():
                return place / persona
        raise PersonaNotFound(f"there is no persona '{persona}'; {self._meant(persona)}", persona=persona)

    def _meant(self, persona: str) -> str:
        """Say whom somebody may have meant: of many the nearest."""
        known = self.ids()
        if len(known) <= NAMED:
            return f"choose one of {', '.join(known)}"
        close = difflib.get_close_matches(persona, known, n=3)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        return f"{meant}see: roomtone personas list"

    def load(self, persona: str) -> Persona:
        """Return a persona, from memory where its files are as they were.

        Raises PersonaNotFound, and PersonaError with file, key and reason for one that is broken, or whose button is
        an earlier one's.
        """
        folder = self.folder(persona)
        read = self._load(folder)
        if read.button is not None:
            self._refuse_second(read, folder)
        return read

    def files(self, persona: Persona) -> Files | None:
        """Return the files that a persona was read from; None where they have changed since."""
        for read in list(self._read.values()):
            if read.persona is not None and read.persona.content == persona.content and read.persona.id == persona.id:
                return read.files
        return None

    def _load(self, folder: Path) -> Persona:
        known = self._read.get(folder)
        seen = persona_files.look(folder)
        if known is None or known.seen != seen:
            fresh = any(time.time_ns() - changed < FRESH_NS for changed, _, _ in seen.values())
            known = self._read[folder] = _read(folder, {} if fresh else seen)
        if known.persona is None:
            raise known.error or PersonaError(f"{folder} cannot be read")
        return known.persona

    def _refuse_second(self, persona: Persona, folder: Path) -> None:
        """Refuse a persona whose button calls one that stands before it: the household's own stand first."""
        for place in self.folders:
            for other in ids(place):
                if other == persona.id and place == folder.parent:
                    return
                if other == persona.id or self.folder(other).parent != place:
                    continue
                try:
                    taken = self._load(place / other).button == persona.button
                except PersonaError:
                    continue
                if taken:
                    reason = f"'{persona.button}' calls {other} already; give one of them another"
                    raise refusal(folder / "config.yaml", "button", reason)


def load(folder: Path) -> Persona:
    """Read one persona's folder.

    Raises PersonaNotFound where there is no such folder, PersonaError with file, key and reason for what is wrong: of
    several mistakes the first, and all of them, a line each, in ``details["mistakes"]``.
    """
    if not folder.is_dir():
        raise PersonaNotFound(f"there is no persona '{folder.name}' in {folder.parent}", persona=folder.name)
    read = _read(folder, persona_files.look(folder))
    if read.persona is None:
        raise read.error or PersonaError(f"{folder} cannot be read")
    return read.persona


def ids(folder: Path) -> list[str]:
    """List the personas that a folder of personas holds, by id, whether or not they can be loaded."""
    try:
        with os.scandir(folder) as entries:
            return sorted(one.name for one in entries if not one.name.startswith(".") and os.path.isdir(one.path))
    except OSError:
        return []  # not there yet, or not readable: the doctor tells


def skills_of(persona: Persona, folder: Path, skills: Skills) -> Skills:
    """Return what of a household's skills a persona has, with those in its own folder.

    Raises PersonaError for a tool that there is not, and for a broken skill of its own.
    """
    try:
        return skills.of(persona.tools, folder / SKILLS)
    except ConfigError as error:
        key, file = str(error.details.get("key") or ""), str(error.details.get("file") or "")
        if file or key != "tools":
            raise PersonaError(error.message, **{**error.details, "mistakes": [error.message]}) from error
        raise refusal(folder / "config.yaml", key, error.message.removeprefix("tools: ")) from error


def refusal(file: Path, key: str, reason: str) -> PersonaError:
    """Return a mistake in a persona's file as an error: one line with file, key and reason."""
    where = f"{file}: {key}: " if key else f"{file}: "
    line = f"{where}{reason}"
    return PersonaError(line, file=str(file), key=key, mistakes=[line])


def _read(folder: Path, seen: Look) -> _Read:
    try:
        if not ID.fullmatch(folder.name):
            raise refusal(folder, "", "a persona's folder is named with a-z, 0-9, _ and - only")
        files = persona_files.read(folder)
        persona, mistakes = parse(folder.name, files)
    except PersonaError as error:
        return _Read(seen, error=error)
    if persona is None:
        return _Read(seen, error=_refused(folder, mistakes))
    return _Read(seen, persona, files)


def _refused(folder: Path, mistakes: Sequence[tuple[str, str, str]]) -> PersonaError:
    """Return mistakes, each with its file, key and reason, as one error: a line that tells the first of them."""
    lines = [refusal(folder / file, key, reason).message for file, key, reason in mistakes]
    file, key, _ = mistakes[0]
    more = f" (and {len(lines) - 1} more; run: roomtone personas check {folder.name})" if len(lines) > 1 else ""
    return PersonaError(lines[0] + more, file=str(folder / file), key=key, mistakes=lines)
