"""A household's own code, at a distance: on a thread and an event loop of its own, so that what blocks or never ends
there costs one answer and not the room's hearing.

A thread cannot be ended from outside. What goes on without end takes a share of the processor until Roomtone is
restarted; it is named in the log, asked nothing more, and nothing that it does after its time changes anything.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from dataclasses import replace
from typing import Any, cast

from roomtone.clock import elapsed
from roomtone.flow import worker
from roomtone.mind import Household
from roomtone.mind.memory import Memory
from roomtone.mind.skills import Answering, Asked, Heard, Offering

log = logging.getLogger(__name__)

PATIENCE_S = 8.0
"""What has not ended so long after it was asked is asked nothing more until it has."""


class OwnCode:
    """The ``answer`` of a household's own skill: called as any other, run elsewhere."""

    def __init__(self, name: str, answer: Answering) -> None:
        self._name = name
        self._answer = answer
        self._began: dict[asyncio.Task[Any], float] = {}

    async def __call__(self, asked: Asked) -> list[str] | Offering:
        """Answer on a thread of its own. Raises what the code raises, and TimeoutError while it is stuck."""
        began = elapsed()
        stuck = [began - since for since in list(self._began.values()) if began - since >= PATIENCE_S]
        if stuck:
            log.error("skill %s has not come back for %.0f s: it blocks; mend it and restart", self._name, max(stuck))
            raise TimeoutError(f"{self._name} is still at an earlier answer")
        far = Far(asked.household)
        with worker(f"skill {self._name}") as thread:
            try:
                return await thread.call(self._run, replace(asked, household=cast(Household, far)), began)
            finally:
                far.given_up = True
                self._give_up(began)

    def _run(self, asked: Asked, began: float) -> list[str] | Offering:
        try:
            return asyncio.run(self._noted(asked, began))
        except (SystemExit, KeyboardInterrupt, asyncio.CancelledError) as error:
            raise RuntimeError(f"{self._name} raised {type(error).__name__}") from error

    async def _noted(self, asked: Asked, began: float) -> list[str] | Offering:
        task = asyncio.current_task()
        assert task is not None
        self._began[task] = began
        try:
            return await self._answer(asked)
        finally:
            del self._began[task]

    def _give_up(self, began: float) -> None:
        """Cancel what was begun then, if it is not over: it ends as soon as it awaits anything."""
        for task in [task for task, since in list(self._began.items()) if since == began]:
            try:
                task.get_loop().call_soon_threadsafe(task.cancel)
            except RuntimeError:
                log.debug("skill %s ended as it was given up", self._name)


class Far:
    """A household as code on another thread sees it: every call is made on the room's own loop, as its turn's.

    So it is with the memory of a household.
    """

    def __init__(self, household: Household) -> None:
        self._household = household
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()
        self.given_up = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._household, name)
        return _FarMemory(self, found) if name == "memory" else self.reached(found)

    def reached(self, found: Any) -> Any:
        """Return what is found as it is, but a function as one that is called on the room's loop."""
        if not callable(found):
            return found
        if inspect.iscoroutinefunction(found):
            return lambda *values: asyncio.wrap_future(self._call(found, *values))

        async def at_once(*values: Any) -> Any:
            return found(*values)

        return lambda *values: self._call(at_once, *values).result()

    def _call(self, found: Callable[..., Awaitable[Any]], *values: Any) -> Any:
        async def unless_given_up() -> Any:
            if self.given_up:
                raise RuntimeError("nobody waits for this answer any more")
            return await found(*values)

        # The one foreign thread that waits for an answer of the loop's: what a household's skill asked for.
        begin = asyncio.run_coroutine_threadsafe  # noqa: TID251
        return self._context.copy().run(begin, unless_given_up(), self._loop)


class _FarMemory:
    def __init__(self, far: Far, memory: Memory) -> None:
        self._far = far
        self._memory = memory

    def __getattr__(self, name: str) -> Any:
        return self._far.reached(getattr(self._memory, name))


def own_accepts(name: str, accepts: Callable[[Heard], bool]) -> Callable[[Heard], bool]:
    """Let ``accepts`` of a household's own skill refuse where it fails: other skills are asked all the same."""

    def accepting(heard: Heard) -> bool:
        try:
            return bool(accepts(heard))
        except (Exception, SystemExit):
            log.exception("skill %s: accepts failed", name)
            return False

    return accepting
