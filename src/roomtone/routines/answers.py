"""What is there of routines and what became of them, as the daemon tells it to an asker and a command to a person."""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from roomtone.control import done_as_asked
from roomtone.core.dialog import Source, Turn
from roomtone.core.errors import ConfigError, ToolError, UsageError
from roomtone.core.routine import PLACEHOLDER, Routine, Step
from roomtone.core.schedule import Action
from roomtone.core.signals import Prompt
from roomtone.mind.tools import BUILT_IN, FAMILIES
from roomtone.routines import SHIPPED, Routines, read
from roomtone.routines.runs import RoutineRun
from roomtone.settings import Settings

LARGEST = 1000
"""Runs shown at once."""

SHOWN = 8
"""Characters of an id that are shown to a person; four and more are understood."""

SHORTEST = 4

Reply = AsyncIterator[dict[str, Any]]
Read = Callable[..., Awaitable[list[sqlite3.Row]]]


class Conversation(Protocol):
    """Who runs routines: ``runs`` are those under way, by id."""

    @property
    def runs(self) -> Mapping[str, RoutineRun]:
        """The routines under way."""

    async def answer(self, prompt: Prompt) -> Turn:
        """Have a prompt answered."""


@dataclass(frozen=True, slots=True)
class House:
    """Where the answers come from: ``starts`` are what starts routines by itself, by its key in the configuration.

    ``read`` asks the store. Without a ``conversation`` nothing is run.
    """

    routines: Routines
    personas: Collection[str]
    servers: Collection[str]
    starts: Mapping[str, Action]
    read: Read
    conversation: Conversation | None = None


def house_of(
    settings: Settings,
    routines: Routines,
    personas: Collection[str],
    read: Read,
    conversation: Conversation | None = None,
) -> House:
    """Return the house that a configuration describes."""
    starts: dict[str, Action] = {f"schedules.{name}": each for name, each in settings.schedules.items()}
    starts |= {f"events.{name}": each for name, each in settings.events.items()}
    buttons = settings.gpio.buttons.items()
    starts |= {f"gpio.buttons.{name}": each for name, each in buttons if isinstance(each, Action)}
    return House(routines, personas, settings.mcp, starts, read, conversation)


def answer(request: Mapping[str, Any], house: House) -> Reply:
    """Answer the request ``routines``: ``do`` says what.

    Events: ``list`` ``{"routine"}`` each; ``check`` ``{"mistake", "routine"}`` each, of all or of ``routine``;
    ``status`` ``{"run"}`` each, at most ``limit``, or of ``run``, an id, alone with its ``"steps"``. The result is
    how many there were; of ``run`` (``routine``) it is the turn. Raises UsageError for a wrong request, StoreError.
    """
    if request.get("do") == "run" and house.conversation is not None:
        return _start(request, house.routines, house.conversation)
    return done_as_asked(request, {"list": _list, "check": _check, "status": _status}, house, besides=("run",))


async def _start(request: Mapping[str, Any], routines: Routines, conversation: Conversation) -> Reply:
    turn = await conversation.answer(Prompt("", Source.CLI, routine=wanted(request, routines)))
    yield {"result": turn.model_dump(mode="json")}


def wanted(request: Mapping[str, Any], routines: Routines) -> str:
    """Return the routine that a request names. Raises UsageError where there is none."""
    name, there = request.get("routine"), routines.all()
    if name in there:
        return str(name)
    broken = next((reason for file, reason in routines.refused.items() if file.stem == name), None)
    if broken is not None:
        raise UsageError(f"the routine '{name}' cannot be run: {broken}")
    raise UsageError(f"there is no routine '{name}'; there are {', '.join(sorted(there)) or 'none'}")


async def _list(_: Mapping[str, Any], house: House) -> Reply:
    files = {path.stem: path for folder in reversed(house.routines.folders) for path in folder.glob("*.yaml")}
    there = house.routines.all()
    broken = {file.stem: reason for file, reason in house.routines.refused.items()}
    for name in sorted({*there, *broken}):
        routine = there.get(name)
        yield {
            "routine": {
                "name": name,
                "description": routine.description if routine else None,
                "phrases": list(routine.phrases) if routine else [],
                "persona": routine.persona if routine else None,
                "steps": len(routine.steps) if routine else 0,
                "started_by": [key for key, action in house.starts.items() if action.routine == name],
                "from": "roomtone" if files[name].parent == SHIPPED else "household",
                "file": str(files[name]),
                "broken": broken.get(name),
            }
        }


async def _check(request: Mapping[str, Any], house: House) -> Reply:
    there, only = house.routines.all(), request.get("routine")
    broken = {file.stem: file for file in house.routines.refused}
    if only is not None and only not in broken:
        wanted(request, house.routines)
    for name in sorted({*there, *broken} if only is None else {only}):
        mistakes = mistakes_of(broken[name], house) if name in broken else _named(there[name], house)
        for mistake in mistakes:
            yield {"mistake": mistake, "routine": name}
    for key, action in house.starts.items() if only is None else ():
        if action.routine is not None and action.routine not in there:
            yield {"mistake": f"{key}.routine: there is no routine '{action.routine}'", "routine": action.routine}


def _named(routine: Routine, house: House) -> list[str]:
    return [f"{routine.name}: {mistake}" for mistake in _odd(routine, house)]


def mistakes_of(file: Path, house: House) -> list[str]:
    """Return every mistake of a file, a line each: in its YAML, its keys, its graph, or in what it names."""
    try:
        routine = read(file)
    except ConfigError as error:
        return list(error.details.get("mistakes") or [error.message])
    return [f"{file}: {mistake}" for mistake in _odd(routine, house)]


def _odd(routine: Routine, house: House) -> Iterator[str]:
    """Yield what a routine names that there is not: personas, tools, and arguments that a tool does not take."""
    if routine.persona is not None and routine.persona not in house.personas:
        yield f"persona: there is no persona '{routine.persona}'"
    for id_, step in routine.steps.items():
        if step.persona is not None and step.persona not in house.personas:
            yield f"steps.{id_}.persona: there is no persona '{step.persona}'"
        if step.tool is not None:
            yield from (f"steps.{id_}.{mistake}" for mistake in _misused(step, step.tool, house))


def _misused(step: Step, name: str, house: House) -> Iterator[str]:
    own = {tool.spec.name: tool for tool in BUILT_IN}
    family = name.partition(".")[0]
    if name in own:
        if not PLACEHOLDER.search(json.dumps(step.arguments, default=str)):
            try:
                own[name].checked(step.arguments)
            except ToolError as error:
                yield f"arguments: {error.message}"
    elif family in FAMILIES:
        near = difflib.get_close_matches(name, own, 3, 0.5)
        yield f"tool: there is no tool '{name}'" + (f"; did you mean {', '.join(near)}?" if near else "")
    elif family not in house.servers and step.fallback is None:
        yield f"tool: there is no server '{family}' under mcp: in the configuration, and the step has no fallback"


async def _status(request: Mapping[str, Any], house: House) -> Reply:
    limit, wanted_run = request.get("limit", 20), request.get("run")
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= LARGEST:
        raise UsageError(f"limit: choose a number from 1 to {LARGEST}")
    if wanted_run is not None:
        row = await _one(str(wanted_run), house)
        yield {"run": _run(row), "steps": _steps(row, house)}
        return
    for row in reversed(await house.read("SELECT * FROM routine_runs ORDER BY rowid DESC LIMIT ?", limit)):
        yield {"run": _run(row)}


async def _one(id_: str, house: House) -> sqlite3.Row:
    """Return the run whose id begins so, or the last of the routine of that name. Raises UsageError."""
    rows = await house.read("SELECT * FROM routine_runs WHERE routine = ? ORDER BY rowid DESC LIMIT 1", id_)
    if not rows and len(id_) >= SHORTEST and id_.isalnum():
        rows = await house.read("SELECT * FROM routine_runs WHERE id LIKE ? LIMIT 2", f"{id_}%")
    if len(rows) != 1:
        what = "begins several runs" if rows else "is no run and no routine that was run"
        raise UsageError(f"'{id_}' {what}; see: roomtone routines status")
    return rows[0]


def _run(row: sqlite3.Row) -> dict[str, Any]:
    return {key: row[key] for key in ("id", "routine", "status", "at", "ended", "session", "trace")}


def _steps(row: sqlite3.Row, house: House) -> dict[str, Any]:
    live = house.conversation.runs.get(row["id"]) if house.conversation is not None else None
    steps: dict[str, Any] = live.told() if live is not None else json.loads(row["data"])["steps"]
    return steps
