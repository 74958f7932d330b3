"""What is there of personas, as the daemon tells it to an asker and a command to a person."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from roomtone.control import done_as_asked
from roomtone.core.errors import PersonaError, PersonaNotFound, UsageError
from roomtone.core.persona import Persona
from roomtone.flow import worker
from roomtone.mind.phrases import Phrases
from roomtone.mind.prompt import Surroundings, system_prompt
from roomtone.mind.sentences import Skills
from roomtone.personas import Library, skills_of
from roomtone.personas import versions as persona_versions
from roomtone.store import Store

T = TypeVar("T")

Use = Callable[[str], Awaitable[Mapping[str, Any]]]
"""Switches to a persona and says how that went."""

MOST = 1000
"""Switches that are told at once."""


@dataclass(frozen=True, slots=True)
class Household:
    """Where the answers come from: ``speaks`` is who the room speaks as, and ``where`` what prompts are told."""

    library: Library
    skills: Skills
    store: Store
    speaks: str
    where: Surroundings
    use: Use


def answer(request: Mapping[str, Any], household: Household) -> AsyncIterator[dict[str, Any]]:
    """Answer the request ``personas``: ``do`` says what, ``persona`` of whom.

    Events: ``list`` ``{"persona"}`` each; ``show`` ``{"persona"}`` in full, with ``prompt`` also its ``"prompt"``;
    ``check`` ``{"mistake"}`` each; ``history`` ``{"version"}`` and ``{"switch"}`` each; ``use`` ``{"used"}``;
    ``rollback`` (``content``: the version's hash) ``{"version", "folder"}``. The result is how many there were.
    Raises UsageError for a wrong request, PersonaNotFound, PersonaError, StoreError.
    """
    ways = {
        "list": _list,
        "show": _show,
        "check": _check,
        "use": _use,
        "history": _history,
        "rollback": _rollback,
    }
    return done_as_asked(request, ways, household)


def mistakes_of(persona: str, library: Library, skills: Skills) -> Iterator[str]:
    """Yield every mistake of a persona, a line each: in its files, its tools, its own skills, its button.

    Raises PersonaNotFound.
    """
    folder = library.folder(persona)
    try:
        skills_of(library.load(persona), folder, skills)
    except PersonaError as error:
        yield from error.details.get("mistakes") or [error.message]


async def _aside(work: Callable[..., T], *args: Any) -> T:
    """Read folders on a thread: it takes a tenth of a second each, in which the room would not hear."""
    with worker("personas asked for") as thread:
        return await thread.call(work, *args)


async def _list(_: Mapping[str, Any], household: Household) -> AsyncIterator[dict[str, Any]]:
    for id_ in sorted({*household.library.ids(), household.speaks}):
        yield {"persona": await _aside(_summary, id_, household)}


def _summary(persona: str, household: Household) -> dict[str, Any]:
    try:
        place = household.library.folder(persona)
        mistakes = list(mistakes_of(persona, household.library, household.skills))
    except PersonaNotFound:  # it speaks, and its folder was removed meanwhile
        place, mistakes = None, [f"its folder is gone; put it back, or run: roomtone personas rollback {persona}"]
    summary: dict[str, Any] = {"id": persona, "name": None, "description": None, "version": None}
    summary |= {"tags": [], "mode": None, "content": None}
    if not mistakes:
        read = household.library.load(persona)
        summary |= {"name": read.name, "description": read.description, "version": read.version}
        summary |= {"tags": list(read.tags), "mode": read.adaptation_mode, "content": read.content}
    own = place is not None and place.parent == household.library.folders[0]
    return {
        **summary,
        "speaks": persona == household.speaks,
        "from": "household" if own else "roomtone" if place else None,
        "folder": str(place) if place else None,
        "broken": mistakes,
    }


async def _show(request: Mapping[str, Any], household: Household) -> AsyncIterator[dict[str, Any]]:
    persona = household.library.load(_named(request))
    event: dict[str, Any] = {"persona": persona.model_dump(mode="json")}
    event["folder"] = str(household.library.folder(persona.id))
    if request.get("prompt") is True:
        event["prompt"] = await _aside(prompt_of, persona, household)
    yield event


def prompt_of(persona: Persona, household: Household) -> str:
    """Return the system prompt of a persona as it would be now. Raises PersonaError for a broken skill of its own."""
    phrases = Phrases.load(household.skills.language.language)
    can = skills_of(persona, household.library.folder(persona.id), household.skills)
    tools = [skill.about for skill in can.skills if skill.about]
    return system_prompt(persona, phrases, household.where, tools)


async def _check(request: Mapping[str, Any], household: Household) -> AsyncIterator[dict[str, Any]]:
    wanted = [_named(request)] if request.get("persona") is not None else household.library.ids()
    for persona in wanted:
        for mistake in await _aside(_mistakes, persona, household):
            yield {"mistake": mistake, "persona": persona}


def _mistakes(persona: str, household: Household) -> list[str]:
    return list(mistakes_of(persona, household.library, household.skills))


async def _use(request: Mapping[str, Any], household: Household) -> AsyncIterator[dict[str, Any]]:
    persona = household.library.load(_named(request))
    how = {"speaks": "already"} if persona.id == household.speaks else await household.use(persona.id)
    yield {"used": {"persona": persona.id, "name": persona.name, "earlier": household.speaks, **how}}


async def _history(request: Mapping[str, Any], household: Household) -> AsyncIterator[dict[str, Any]]:
    persona, limit = _named(request), request.get("limit", 20)
    if not isinstance(limit, int) or not 1 <= limit <= MOST:
        raise UsageError(f"limit: choose a number from 1 to {MOST}")
    versions = await persona_versions.versions(household.store, persona)
    if not versions:
        household.library.folder(persona)  # raises PersonaNotFound for one that there never was
    present = _present(persona, household.library)
    for version in versions:
        yield {"version": _version(version), "present": version.content == present}
    for switch in reversed(await persona_versions.switches(household.store, persona, limit)):
        yield {"switch": switch}


def _present(persona: str, library: Library) -> str | None:
    try:
        return library.load(persona).content
    except PersonaError:
        return None


async def _rollback(request: Mapping[str, Any], household: Household) -> AsyncIterator[dict[str, Any]]:
    content = request.get("content")
    wanted = str(content) if content is not None else None
    version, folder = await persona_versions.roll_back(household.store, household.library, _named(request), wanted)
    yield {"version": _version(version), "folder": str(folder)}


def _version(version: persona_versions.Version) -> dict[str, Any]:
    def iso(at: datetime) -> str:
        return at.isoformat()

    times = {"since": iso(version.since), "last_used": iso(version.last_used)}
    return {"content": version.content, "persona": version.persona, "version": version.version, **times}


def _named(request: Mapping[str, Any]) -> str:
    persona = request.get("persona")
    if not isinstance(persona, str) or not persona:
        raise UsageError("persona: give the id of one; see: roomtone personas list")
    return persona
