"""Routines that run in a turn: each step is done as the persona it names, and kept as a node of what was said."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from roomtone import outbound
from roomtone.clock import utc_now
from roomtone.core.dialog import Message, Role, new_id
from roomtone.core.errors import ToolError
from roomtone.core.persona import Persona
from roomtone.core.routine import Routine, StepStatus
from roomtone.core.speakable import in_words
from roomtone.database import Statement
from roomtone.engines.llm import ToolCall
from roomtone.flow import Stream, cancelling_group
from roomtone.mind import Answer, Household
from roomtone.mind.errands import on_an_errand
from roomtone.mind.phrases import Phrases
from roomtone.mind.talking import PATIENCE_S, Known, Scope, Talking
from roomtone.mind.toolbox import RunStatus, Toolbox
from roomtone.routines import Doing, Put, Routines, Running
from roomtone.store import Store, iso, keeping_message

log = logging.getLogger(__name__)

LONGEST_KEPT = 4000
"""Letters of what a step came to that are kept."""

Spawn = Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]]
As = Callable[[str | None], Awaitable[tuple[Persona, Talking | None, Household]]]
"""Returns a persona (None: who tells the routine) with what it talks with, and the household as it sees it."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose turn a routine runs in. ``asked`` are the messages that its first steps follow.

    ``waits``: somebody is there who asked for it, and wants to know that something is being done. ``waiting`` counts
    the time until its first word as an engine's.
    """

    trace: str
    session: str
    asked: Sequence[str] = ()
    waits: bool = True
    waiting: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(slots=True)
class RoutineRunner:
    """Runs routines for a household.

    ``write`` keeps statements in one commit, in the order of its calls; ``note`` keeps one a little later, and also
    when the room is being closed; ``publish`` tells the feed.
    ``runs`` are those under way, by id.
    """

    routines: Routines
    tools: Toolbox
    max_parallel: int
    write: Callable[[Sequence[Statement]], object]
    note: Callable[[Statement], None]
    publish: Callable[[str, Any], object]
    spawn: Spawn
    phrases: Callable[[], Phrases] = Phrases.load
    runs: dict[str, RoutineRun] = field(default_factory=dict)

    def run(self, name: str, whose: Whose, as_: As) -> Answer:
        """Begin to run a routine; its words come as the answer's deltas. Raises ToolError where there is none."""
        routine = self.routines.all().get(name)
        if routine is None:
            raise ToolError(self.phrases().say("no_routine", routine=in_words(name)))
        run = RoutineRun(routine, whose, self, as_)
        answer = Answer("routine", run.deltas(), f"routine.{routine.name}")
        answer.follows = run.nodes
        return answer

    async def finish(
        self, routine: Routine, whose: Whose, as_: As, follow: Callable[[Iterable[str]], None]
    ) -> RoutineRun:
        """Run a routine that a model planned to its end, unsaid; ``follow`` is told the nodes it left."""
        run = RoutineRun(routine, whose, self, as_, planned=True)
        try:
            await run.finish()
        finally:
            follow(run.nodes.values())
        return run


class RoutineRun:
    """One run: its row, its nodes by step, and what its steps are done with.

    ``planned``: a model made the routine, so what strangers wrote may change nothing in it.
    """

    def __init__(
        self, routine: Routine, whose: Whose, runner: RoutineRunner, as_: As, *, planned: bool = False
    ) -> None:
        self.id = new_id()
        self._planned = planned
        self.nodes: dict[str, str] = {}
        self._whose = whose
        self._runner = runner
        self._as = as_
        self._begun = utc_now()
        self._running = Running(routine, self, runner.max_parallel, self._on_step)

    @property
    def steps(self) -> Mapping[str, Doing]:
        """How each step stands."""
        return self._running.steps

    def told(self) -> dict[str, dict[str, Any]]:
        """Return how each step stands: its status, seconds, error and node."""
        return {
            id_: {
                "status": str(doing.status),
                "took_s": round(doing.took_s, 3),
                "error": doing.error,
                "node": self.nodes.get(id_),
            }
            for id_, doing in self.steps.items()
        }

    async def deltas(self) -> AsyncIterator[str]:
        """Yield the words of the routine while it runs beside; closing this stops it.

        Who waits long for the first is told so once; who asked is told too where it has nothing to say.
        """
        stream: Stream[str] = Stream(1)
        task = self._runner.spawn(stream.fed(self._run(stream.put)), f"routine {self._running.routine.name}")
        waits, silent = self._whose.waits, True
        try:
            while True:
                try:
                    with self._whose.waiting():
                        delta = await (stream.within(PATIENCE_S) if waits else anext(stream))
                    silent = False
                except TimeoutError:
                    delta = f"{self._runner.phrases().say('looking')} "
                except StopAsyncIteration:
                    break
                waits = False
                yield delta
            if silent and (line := self._in_a_line()):
                yield line
        finally:
            task.cancel()
            await asyncio.wait([task])

    def _in_a_line(self) -> str:
        """Return how it went where no step had anything to say; "" where nobody needs to hear that all is done.

        Raises ToolError, a line that is said, where nothing worked.
        """
        status = self._outcome()
        if status == "done" and not self._whose.waits:
            return ""
        line = self._runner.phrases().say(f"routine_{status}", routine=in_words(self._running.routine.name))
        if status == "failed":
            raise ToolError(line)
        return line

    async def finish(self) -> None:
        """Run it to its end, saying nothing."""
        await self._run(_unsaid)

    async def _run(self, put: Put) -> None:
        self._runner.runs[self.id] = self
        self._keep("running")
        try:
            await self._running.run(put)
        except asyncio.CancelledError:
            self._keep("stopped")
            raise
        except BaseException:
            self._keep("failed")
            raise
        else:
            self._keep(self._outcome())
        finally:
            del self._runner.runs[self.id]

    def _outcome(self) -> str:
        useful = [doing.status.useful for doing in self.steps.values()]
        return "done" if all(useful) else "partly" if any(useful) else "failed"

    # ------------------------------------------------------------------------------------------ deeds

    async def think(self, persona: str | None, text: str, put: Put, *, outside: bool = False) -> None:
        """Let a persona answer a text, who knows nothing of what was said before.

        Who is named uses its tools for that, its notes and what it remembers. Raises ToolError where there is no
        model, or a yes would be needed.
        """
        who, talking, house = await self._as(persona)
        if talking is None:
            raise ToolError("there is no language model here")
        async with cancelling_group() as group:  # a model that is given up on is busy with it no longer
            scope = self._scope(group)
            with on_an_errand(), outbound.within(who.egress):
                if not talking.can_answer:
                    raise ToolError("there is no language model that may be asked")
                known = await talking.know(text, house)
                if persona is None:
                    known = Known(likes=known.likes)
                answer = await talking.answer(
                    text, house, scope, known, uses_tools=persona is not None, tainted=outside
                )
            async for delta in answer.deltas:
                if answer.offers is not None:  # what is asked for a yes is not to be said: nobody could give it
                    break
                await put(delta)
        if answer.offers is not None:
            raise ToolError(f"{answer.offers.tool} needs somebody's yes, and is not for a routine")

    def _scope(self, group: asyncio.TaskGroup) -> Scope:
        permit = asyncio.Event()
        permit.set()
        session = self._whose.session
        return Scope(group, nullcontext, permit, self._whose.trace, lambda: session, bridges=False)

    async def use(
        self, persona: str | None, tool: str, arguments: Mapping[str, Any], *, outside: bool = False
    ) -> tuple[str, bool]:
        """Use a tool under a persona's permissions. Raises ToolError where it came to nothing."""
        who, _, house = await self._as(persona)
        call = ToolCall("routine", tool, json.dumps(arguments, ensure_ascii=False, default=str))
        trace, session = self._whose.trace, self._whose.session
        tainted = outside and self._planned
        with on_an_errand(), outbound.within(who.egress):
            outcome = await self._runner.tools.run(call, house, tainted=tainted, trace=trace, session=session)
        if outcome.offer is not None:
            raise ToolError(f"{tool} needs somebody's yes, and is not for a routine")
        if outcome.run.status is not RunStatus.DONE:
            raise ToolError(outcome.run.error or outcome.text)
        return outcome.run.result, outcome.outside

    # ----------------------------------------------------------------------------------------- record

    def _on_step(self, id_: str, doing: Doing) -> None:
        told = {"routine": self._running.routine.name, "run": self.id, "step": id_, "status": doing.status}
        self._runner.publish("routine.step", {**told, "error": doing.error})
        if doing.status.over:
            if doing.status is not StepStatus.SKIPPED:
                self._runner.write(self._node(id_, doing, told))
            self._runner.note(self._row("running"))

    def _node(self, id_: str, doing: Doing, told: dict[str, Any]) -> list[Statement]:
        """Return what keeps what a step came to: behind the steps that it followed, or behind what was asked."""
        data = {**told, "trace": self._whose.trace, **({"error": doing.error} if doing.error else {})}
        text = doing.result[:LONGEST_KEPT]
        message = Message(session=self._whose.session, role=Role.TOOL, text=text, at=utc_now(), data=data)
        parents = [self.nodes[need] for need in doing.step.after if need in self.nodes]
        self.nodes[id_] = message.id
        return keeping_message(message, parents or self._whose.asked)

    def _keep(self, status: str) -> None:
        self._runner.note(self._row(status))
        if status != "running":
            told = {"routine": self._running.routine.name, "run": self.id, "status": status}
            self._runner.publish("routine.ended", told)

    def _row(self, status: str) -> Statement:
        ended = None if status == "running" else utc_now()
        name, whose = self._running.routine.name, self._whose
        at, until = iso(self._begun), iso(ended)
        row = (self.id, at, until, whose.trace, whose.session, name, status, json.dumps({"steps": self.told()}))
        insert = "INSERT INTO routine_runs (id, at, ended, trace, session, routine, status, data)"
        update = "ON CONFLICT DO UPDATE SET ended = excluded.ended, status = excluded.status, data = excluded.data"
        return f"{insert} VALUES (?,?,?,?,?,?,?,?) {update}", row


async def close_cut_off(store: Store) -> int:
    """Close the runs that the last stop of the program cut off; return how many. Raises StoreError."""
    rows = await store.read("SELECT id, data FROM routine_runs WHERE status = 'running'")
    for row in rows:
        data = json.loads(row["data"])
        for step in data["steps"].values():
            if not StepStatus(step["status"]).over:
                step |= {"status": StepStatus.SKIPPED, "error": "the program was stopped"}
        set_ = "status = 'failed', ended = ?, data = ?"
        await store.write(
            (f"UPDATE routine_runs SET {set_} WHERE id = ?", (iso(utc_now()), json.dumps(data), row["id"]))
        )
    return len(rows)


async def _unsaid(_: str) -> None:
    """Take words that nobody is to hear."""
