"""Working ahead: an answer is begun while it is not yet certain that the person has finished speaking.

Nothing of it is heard or done until the turn is committed; what was begun for words that were not the last is thrown
away.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from roomtone.flow import Stream, cancelling_group, task_group
from roomtone.mind import Answer, Household
from roomtone.mind.talking import Scope, Talking
from roomtone.mind.thinking import Mind

log = logging.getLogger(__name__)

DELTAS_AHEAD = 256


@dataclass(slots=True)
class _Draft:
    """An answer to a text that may not be all yet. Times are the loop's; ``ready_at``: its first word was there."""

    text: str
    scope: Scope
    begun_at: float
    answer: asyncio.Future[Answer | None]
    task: asyncio.Task[None] | None = None
    ready_at: float | None = None


class Foresight:
    """The drafts of one turn: at most one at a time."""

    def __init__(self, mind: Mind, household: Household, scope: Scope) -> None:
        self._mind = mind
        self._household = household
        self._scope = scope
        self._draft: _Draft | None = None

    def consider(self, text: str) -> None:
        """Begin to answer a text, unless that is what is being done; what was begun for another is given up."""
        if self._draft is not None and self._draft.text == text:
            return
        self._give_up()
        if not text.strip() or self._mind.talking is None:
            return
        loop = asyncio.get_running_loop()
        scope = replace(self._scope, permit=asyncio.Event())
        self._draft = draft = _Draft(text, scope, loop.time(), loop.create_future())
        draft.task = self._scope.group.create_task(self._work(draft), name="anticipating")

    async def answer(self, text: str) -> Answer:
        """Answer the text that it came to: as it was begun, or anew. Raises what ``Mind.answer`` raises."""
        draft = self._draft
        if draft is not None and draft.text == text:
            draft.scope.permit.set()
            permitted_at = asyncio.get_running_loop().time()
            with self._scope.waiting():
                answer = await draft.answer
            if answer is not None:
                answer.saved_s = min(permitted_at, draft.ready_at or permitted_at) - draft.begun_at
                return answer
        self._give_up()
        self._scope.permit.set()
        return await self._mind.answer(text, self._household, self._scope)

    async def answer_as(self, talking: Talking, household: Household, text: str) -> Answer:
        """Let somebody else's model answer a text; what was begun for it is given up."""
        self._give_up()
        self._scope.permit.set()
        known = await talking.know(text, household)
        return await talking.answer(text, household, self._scope, known)

    async def go_on(self, rest: str) -> Answer:
        """Say the rest of an answer that was broken off, and let the model finish it (``Mind.go_on``)."""
        self._scope.permit.set()
        return await self._mind.go_on(rest, self._household, self._scope)

    async def _work(self, draft: _Draft) -> None:
        """Draft an answer; one that fails before anybody waits for it is simply made again."""
        try:
            async with task_group() as group:
                scope = replace(draft.scope, group=group)
                begun = await self._mind.draft(draft.text, self._household, scope)
                if begun is None:
                    draft.answer.set_result(None)
                    return
                stream: Stream[str] = Stream(DELTAS_AHEAD)
                begun.deltas, deltas = stream, begun.deltas
                draft.answer.set_result(begun)
                await stream.fed(_pass_on(deltas, stream, draft))
        except Exception as error:
            if draft.answer.done():
                raise
            log.warning("nothing is drafted: %s", error)
            draft.answer.set_result(None)

    def _give_up(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None and draft.task is not None:
            draft.task.cancel()


async def _pass_on(deltas: AsyncIterator[str], stream: Stream[str], draft: _Draft) -> None:
    async for delta in deltas:
        if draft.ready_at is None:
            draft.ready_at = asyncio.get_running_loop().time()
        await stream.put(delta)


@asynccontextmanager
async def anticipating(
    mind: Mind,
    household: Household,
    waiting: Callable[[], AbstractContextManager[None]],
    trace: str = "",
    session: Callable[[], str] = str,
) -> AsyncIterator[Foresight]:
    """Open the foresight of a turn; whatever it has begun ends with the context."""
    async with cancelling_group() as group:
        yield Foresight(mind, household, Scope(group, waiting, asyncio.Event(), trace, session))
