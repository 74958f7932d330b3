"""The tools of a household: which a persona may use, and one run of one, checked, bounded and written down."""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from pydantic import Field

from roomtone import outbound
from roomtone.clock import utc_now
from roomtone.core.dialog import Noun, Offer, new_id
from roomtone.core.errors import EgressRefused, RoomtoneError, StoreError, ToolError
from roomtone.core.persona import Persona
from roomtone.core.tooling import ToolSpec
from roomtone.engines.llm import ToolCall
from roomtone.engines.tools import Result, Tool, Traits
from roomtone.mind import Household
from roomtone.mind.phrases import Phrases
from roomtone.mind.tools import BUILT_IN, TAKING_BACK, BuiltIn, allowed
from roomtone.mind.tools.arguments import fitting, plain, question, read, said

log = logging.getLogger(__name__)

LONGEST_RESULT = 2000
"""Characters of a result that a model is told: some five hundred tokens, ten seconds of reading on a Pi."""

LONGEST_LINE = 300
"""Characters of what is told of a failure."""

LONGEST_NAME = 100


class RunStatus(StrEnum):
    """What became of a call: done, failed, not allowed, over its time, or waiting for the person's yes."""

    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    LATE = "late"
    ASKED = "asked"
    UNDONE = "undone"


class ToolRun(Noun):
    """One call of a tool, as its row keeps it. ``arguments`` are as they were written; ``undo`` takes it back."""

    id: str = Field(default_factory=new_id)
    at: datetime = Field(default_factory=utc_now)
    trace: str = ""
    session: str = ""
    persona: str = ""
    tool: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    status: RunStatus
    result: str = ""
    error: str = ""
    took_ms: float = 0.0
    undo: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a model is told of its call; ``offer``: what the person must say yes to first, ``question`` asks them."""

    run: ToolRun
    text: str
    offer: Offer | None = None
    question: str = ""
    outside: bool = False


class Journal(Protocol):
    """Where runs are written down."""

    async def wrote(self, run: ToolRun) -> None:
        """Keep a run, new or changed."""

    async def last_undoable(self, persona: str) -> ToolRun | None:
        """Return the last run of a persona's that can be taken back and was not, of the last minutes."""


class _Declined(Exception):
    """A run that did not come to a result: its status, and the line that a model is told."""

    def __init__(self, status: RunStatus, line: str) -> None:
        super().__init__(line)
        self.status = status


class Toolbox:
    """All tools there are: Roomtone's own, and those that ``tools`` gives, which come and go with their servers.

    ``phrases`` are what a person is asked and told. ``on_run`` is told of every run. ``rooms_there`` says whether
    there are other rooms.
    """

    def __init__(
        self,
        tools: Callable[[], Sequence[Tool]],
        journal: Journal,
        on_run: Callable[[ToolRun], None],
        phrases: Phrases | None = None,
    ) -> None:
        self.rooms_there: Callable[[], bool] = lambda: False
        self._tools = tools
        self._journal = journal
        self._on_run = on_run
        self._phrases = phrases or Phrases.load()

    def specs(self, persona: Persona) -> tuple[ToolSpec, ...]:
        """List what a persona may use, in an order that stays the same from turn to turn: Roomtone's own first."""
        own = [tool.spec for tool in BUILT_IN if tool.offered or (tool.elsewhere and self.rooms_there())]
        theirs = sorted((tool.spec for tool in self._theirs()), key=lambda spec: spec.name)
        return tuple(spec for spec in (*own, *theirs) if allowed(persona, spec.name))

    async def run(
        self,
        call: ToolCall,
        house: Household,
        *,
        agreed: bool = False,
        tainted: bool = False,
        trace: str = "",
        session: str = "",
    ) -> Outcome:
        """Do what a model asks for. Never raises but for cancellation: what went wrong is told to the model.

        ``agreed``: the person has said yes to this. ``tainted``: the model has read what strangers wrote in this
        turn, so whatever changes anything needs a yes too. ``trace`` and ``session`` are the turn's, for the row.
        """
        arguments, wrong = read(call.arguments)
        run = ToolRun(
            trace=trace,
            session=session,
            persona=house.persona.id,
            tool=plain(call.name, LONGEST_NAME),
            arguments=arguments,
            status=RunStatus.FAILED,
        )
        try:
            tool = self._permitted(call.name, house.persona)
            checked = _checked(tool, arguments, wrong)
            _may_travel(tool)
        except _Declined as declined:
            return await self._declined(run, declined)
        if not agreed and (tool.traits.confirm or (tainted and tool.traits.changes)):
            return await self._asked(run, tool, checked)
        return await self._run(run, tool, checked, house)

    async def undo(self, house: Household, *, trace: str = "", session: str = "") -> Outcome | None:
        """Take back what was done last, as far as it can be; None where there is nothing. Raises StoreError.

        The outcome's ``text`` is what to say of it. What could not be taken back is not tried a second time.
        """
        last = await self._journal.last_undoable(house.persona.id)
        if last is None or last.undo is None:
            return None
        name, arguments = str(last.undo["tool"]), dict(last.undo["arguments"])
        run = ToolRun(trace=trace, session=session, persona=house.persona.id, tool=name, status=RunStatus.FAILED)
        run = run.model_copy(update={"arguments": arguments})
        try:
            tool = self._found(name, TAKING_BACK)
            if tool is None:
                raise _Declined(RunStatus.FAILED, f"{name} is gone")
            outcome = await self._run(run, tool, _checked(tool, arguments), house, undoes=True)
        except _Declined as declined:
            outcome = await self._declined(run, declined)
        done = outcome.run.status is RunStatus.DONE
        await self._keep(last.model_copy(update={"undo": None, **({"status": RunStatus.UNDONE} if done else {})}))
        key = "tool_undone" if done else "tool_not_undone"
        return replace(outcome, text=said(key, last.tool, {**self._whole(last), **arguments}, self._phrases))

    def _whole(self, run: ToolRun) -> dict[str, Any]:
        """Return a run's arguments with what was left out of them."""
        tool = self._found(run.tool)
        return tool.checked(run.arguments) if isinstance(tool, BuiltIn) else run.arguments

    def _theirs(self) -> list[Tool]:
        own = {tool.spec.name for tool in BUILT_IN}
        return [tool for tool in self._tools() if tool.spec.name not in own]

    def _found(self, name: str, more: Sequence[Tool] = ()) -> Tool | None:
        return next((tool for tool in (*BUILT_IN, *self._theirs(), *more) if tool.spec.name == name), None)

    def _permitted(self, name: str, persona: Persona) -> Tool:
        tool = self._found(name)
        known = [spec.name for spec in self.specs(persona)]
        near = difflib.get_close_matches(name.replace("_", ".")[:LONGEST_NAME], known, 3, 0.5)
        there = f"did you mean {', '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
        if tool is None:
            raise _Declined(RunStatus.FAILED, f"there is no tool '{plain(name, LONGEST_NAME)}'; {there}")
        if not allowed(persona, name):
            raise _Declined(RunStatus.REFUSED, f"you may not use {name}; {there}")
        return tool

    async def _run(
        self, run: ToolRun, tool: Tool, arguments: Mapping[str, Any], house: Household, *, undoes: bool = False
    ) -> Outcome:
        """Run a tool whose arguments were checked."""
        clock = asyncio.get_running_loop().time
        began = clock()
        if tool.traits.changes:
            house.acts()
        try:
            result = await _done(tool, arguments, house)
        except _Declined as declined:
            took = round((clock() - began) * 1000, 1)
            outcome = await self._declined(run.model_copy(update={"took_ms": took}), declined)
            return replace(outcome, text=self._told(outcome.text, tool.traits), outside=tool.traits.outside)
        except asyncio.CancelledError:  # it may have done something all the same: the row says that nobody knows
            await self._ended(run, RunStatus.FAILED, error="cut off in the middle")
            raise
        text = plain(result.text, LONGEST_RESULT)
        back = None if undoes or result.undo is None else _call(*result.undo)
        took = round((clock() - began) * 1000, 1)
        run = run.model_copy(update={"undo": back, "took_ms": took})
        run = await self._ended(run, RunStatus.DONE, result=text)
        return Outcome(run, self._told(text, tool.traits), outside=tool.traits.outside)

    def _told(self, text: str, traits: Traits) -> str:
        """Return a result as a model is told it: that strangers wrote it, where they did."""
        if not traits.outside:
            return text
        return self._phrases.language.prompt["from_outside"].format(text=text)

    async def _asked(self, run: ToolRun, tool: Tool, checked: dict[str, Any]) -> Outcome:
        """Ask the person first."""
        asked = question(tool.spec, run.arguments, checked, self._phrases)
        run = await self._ended(run, RunStatus.ASKED)
        offer = Offer(tool=tool.spec.name, slots=run.arguments)
        return Outcome(run, "the person is asked first", offer, asked)

    async def _declined(self, run: ToolRun, declined: _Declined) -> Outcome:
        line = plain(str(declined), LONGEST_LINE)
        return Outcome(await self._ended(run, declined.status, error=line), f"error: {line}")

    async def _ended(self, run: ToolRun, status: RunStatus, *, result: str = "", error: str = "") -> ToolRun:
        run = run.model_copy(update={"status": status, "result": result, "error": error})
        await self._keep(run)
        return run

    async def _keep(self, run: ToolRun) -> None:
        self._on_run(run)
        try:
            await self._journal.wrote(run)
        except StoreError as error:  # what was done is done, and the model must know
            log.error("a run of %s is not written down: %s", run.tool, error.message)


def _checked(tool: Tool, arguments: dict[str, Any], wrong: str = "") -> dict[str, Any]:
    try:
        if wrong:
            raise ToolError(wrong)
        return tool.checked(arguments) if isinstance(tool, BuiltIn) else fitting(tool.spec, arguments)
    except ToolError as error:
        raise _Declined(RunStatus.FAILED, f"{tool.spec.name}: {error.message}") from error


def _may_travel(tool: Tool) -> None:
    host = tool.traits.host
    if host is not None and not outbound.allows(host):
        raise _Declined(RunStatus.REFUSED, f"nothing of what is said here may be sent to {host}")


async def _done(tool: Tool, arguments: Mapping[str, Any], house: Household) -> Result:
    """Run a tool within its time. Raises _Declined with what a model is told where it came to nothing."""
    name, bound = tool.spec.name, tool.traits.timeout_s
    try:
        async with asyncio.timeout(bound):
            return await tool.run(arguments, house)
    except TimeoutError as error:
        raise _Declined(RunStatus.LATE, f"{name} took longer than {bound:g} s and was given up") from error
    except EgressRefused as error:
        raise _Declined(RunStatus.REFUSED, error.message) from error
    except RoomtoneError as error:
        raise _Declined(RunStatus.FAILED, f"{name}: {error.message}") from error
    except Exception as error:
        log.exception("tool %s failed", name)
        raise _Declined(RunStatus.FAILED, f"{name} failed: {type(error).__name__}") from error


def _call(tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"tool": tool, "arguments": dict(arguments)}
