"""Routines that run in a turn: each step is done as the persona it names, and kept as a node of what was said."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from roomtone import outbound
from roomtone.clock import utc_now
from roomtone.core.dialog import Message, Role, new_id
from roomtone.core.errors import ToolError
from roomtone.core.persona import Egress, Persona
from roomtone.core.routine import Routine, StepStatus
from roomtone.database import Statement
from roomtone.engines.llm import ToolCall
from roomtone.flow import Stream, cancelling_group
from roomtone.mind import Answer, Household
from roomtone.mind.talking import Known, Scope, Talking
from roomtone.mind.toolbox import RunStatus, Toolbox
from roomtone.routines import Doing, Routines, Running
from roomtone.store import keeping_message

log = logging.getLogger(__name__)

LONGEST_KEPT = 4000
"""Letters of what a step came to that are kept."""

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
As = Callable[[str | None], Awaitable[tuple[Persona, Talking | None, Household]]]
"""Returns a persona (None: who tells the routine) with what it talks with, and the household as it sees it."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose turn a routine runs in. ``asked`` are the messages that its first steps follow."""

    trace: str
    session: str
    asked: Sequence[str] = ()


@dataclass(slots=True)
class RoutineRunner:
    """Runs routines for a household. ``write`` keeps statements a little later, ``publish`` tells the feed."""

    routines: Routines
    tools: Toolbox
    max_parallel: int
    write: Callable[[Statement], None]
    publish: Callable[[str, Any], None]
    spawn: Spawn
    runs: dict[str, RoutineRun] = field(default_factory=dict)

    def run(self, name: str, whose: Whose, as_: As) -> Answer:
        """Begin to run a routine; its words come as the answer's deltas. Raises ToolError where there is none."""
        routine = self.routines.all().get(name)
        if routine is None:
            known = ", ".join(self.routines.all()) or "none"
            raise ToolError(f"there is no routine '{name}'; there are {known}")
        return self.begin(routine, whose, as_)

    def begin(self, routine: Routine, whose: Whose, as_: As) -> Answer:
        """Begin to run a routine that may be of the moment."""
        run = RoutineRun(routine, whose, self, as_)
        answer = Answer("routine", run.deltas(), f"routine.{routine.name}")
        answer.follows = run.nodes
        return answer


class RoutineRun:
    """One run: its row, its nodes, and what its steps are done with."""

    def __init__(self, routine: Routine, whose: Whose, runner: RoutineRunner, as_: As) -> None:
        self.id = new_id()
        self.nodes: dict[str, str] = {}
        self._whose = whose
        self._runner = runner
        self._as = as_
        self._begun = utc_now()
        self._running = Running(routine, self, runner.max_parallel, self._on_step)
        self._group: asyncio.TaskGroup | None = None

    async def deltas(self) -> AsyncIterator[str]:
        """Yield the words of the routine while it runs beside; closing this stops it."""
        stream: Stream[str] = Stream(1)
        task = self._runner.spawn(stream.fed(self._run(stream)), f"routine {self._running.routine.name}")
        try:
            async for delta in stream:
                yield delta
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, stream: Stream[str]) -> None:
        self._runner.runs[self.id] = self
        self._keep("running")
        try:
            async with cancelling_group() as self._group:
                await self._running.run(stream.put)
        except asyncio.CancelledError:
            self._keep("stopped")
            raise
        except BaseException:
            self._keep("failed")
            raise
        else:
            useful = all(doing.status.useful for doing in self._running.steps.values())
            self._keep("done" if useful else "partly")
        finally:
            del self._runner.runs[self.id]

    # ------------------------------------------------------------------------------------------ deeds

    async def think(self, persona: str | None, text: str, *, outside: bool = False) -> AsyncIterator[str]:
        """Let a persona answer a text that knows nothing of what was said before.

        Who is named uses its tools for that. Raises ToolError where there is no model, or a yes would be needed.
        """
        who, talking, house = await self._as(persona)
        if talking is None:
            raise ToolError("there is no language model here")
        assert self._group is not None
        permit = asyncio.Event()
        permit.set()
        scope = Scope(self._group, nullcontext, permit, self._whose.trace, lambda: self._whose.session)
        with outbound.within(narrower(outbound.limit(), who.egress), outbound.note()):
            if not talking.can_answer:
                raise ToolError("there is no language model that may be asked")
            answer = await talking.answer(
                text, house, scope, Known(), uses_tools=persona is not None, tainted=outside
            )
        async for delta in answer.deltas:
            yield delta
        if answer.offers is not None:
            raise ToolError(f"{answer.offers.tool} needs somebody's yes, and is not for a routine")

    async def use(self, persona: str | None, tool: str, arguments: Mapping[str, Any]) -> str:
        """Use a tool under a persona's permissions. Raises ToolError where it came to nothing."""
        who, _, house = await self._as(persona)
        call = ToolCall("routine", tool, json.dumps(arguments, ensure_ascii=False))
        trace, session = self._whose.trace, self._whose.session
        with outbound.within(narrower(outbound.limit(), who.egress), outbound.note()):
            outcome = await self._runner.tools.run(call, house, trace=trace, session=session)
        if outcome.offer is not None:
            raise ToolError(f"{tool} needs somebody's yes, and is not for a routine")
        if outcome.run.status is not RunStatus.DONE:
            raise ToolError(outcome.run.error or outcome.text)
        return outcome.run.result

    # ----------------------------------------------------------------------------------------- record

    def _on_step(self, id_: str, doing: Doing) -> None:
        told = {"routine": self._running.routine.name, "run": self.id, "step": id_, "status": doing.status}
        self._runner.publish("routine.step", {**told, "error": doing.error})
        if doing.status.over and doing.status is not StepStatus.SKIPPED:
            self._keep_node(id_, doing, told)

    def _keep_node(self, id_: str, doing: Doing, told: dict[str, Any]) -> None:
        """Keep what a step came to, behind the steps that it followed, or behind what was asked."""
        data = {**told, "trace": self._whose.trace, **({"error": doing.error} if doing.error else {})}
        text = doing.result[:LONGEST_KEPT]
        message = Message(session=self._whose.session, role=Role.TOOL, text=text, at=utc_now(), data=data)
        parents = [self.nodes[need] for need in doing.step.after if need in self.nodes]
        for statement in keeping_message(message, parents or self._whose.asked):
            self._runner.write(statement)
        self.nodes[id_] = message.id

    def _keep(self, status: str) -> None:
        steps = {
            id_: {"status": doing.status, "took_s": round(doing.took_s, 3), "error": doing.error}
            | ({"node": self.nodes[id_]} if id_ in self.nodes else {})
            for id_, doing in self._running.steps.items()
        }
        ended = None if status == "running" else utc_now()
        name = self._running.routine.name
        row = (
            self.id,
            _iso(self._begun),
            ended and _iso(ended),
            self._whose.trace,
            self._whose.session,
            name,
            status,
        )
        insert = "INSERT INTO routine_runs (id, at, ended, trace, session, routine, status, data)"
        update = "ON CONFLICT DO UPDATE SET ended = excluded.ended, status = excluded.status, data = excluded.data"
        self._runner.write((f"{insert} VALUES (?,?,?,?,?,?,?,?) {update}", (*row, json.dumps({"steps": steps}))))
        if ended is not None:
            self._runner.publish("routine.ended", {"routine": name, "run": self.id, "status": status})


def narrower(one: Egress, other: Egress) -> Egress:
    """Return which of two lets less travel."""
    order = (Egress.NONE, Egress.LAN, Egress.ANY)
    return min(one, other, key=order.index)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
