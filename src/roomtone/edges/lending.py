"""Engines for guests: an instance of its own, so that no guest ever stands between the room and its engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from roomtone.core.errors import EngineError

log = logging.getLogger(__name__)

E = TypeVar("E")

IDLE_S = 300.0
"""An engine that no guest has asked for so long is closed: its models may take hundreds of megabytes."""


@dataclass(slots=True)
class _Loan(Generic[E]):
    engine: asyncio.Future[E]
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Lending(Generic[E]):
    """Opens an engine when the first guest asks, lends it to one guest at a time, and closes it when it is idle.

    ``run`` must run meanwhile: it is the task that opens and closes.
    """

    def __init__(self, open_engine: Callable[[], AbstractAsyncContextManager[E]], idle_s: float = IDLE_S) -> None:
        self._open = open_engine
        self._idle_s = idle_s
        self._queue = asyncio.Lock()
        self._asked: asyncio.Queue[_Loan[E]] = asyncio.Queue()

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[E]:
        """Wait for one's turn and have the engine. Raises EngineError where it cannot be opened."""
        async with self._queue:
            loan = _Loan[E](asyncio.get_running_loop().create_future())
            self._asked.put_nowait(loan)
            try:
                yield await loan.engine
            finally:
                loan.over.set()

    async def run(self) -> None:
        """Open, lend and close, for as long as this runs."""
        while True:
            loan = await self._asked.get()
            try:
                async with self._open() as engine:
                    await self._lend(loan, engine)
            except Exception as error:
                if isinstance(error, EngineError):
                    log.warning("nothing can be lent to guests: %s", error.message)
                else:
                    log.exception("an engine for guests failed")
                    error = EngineError(f"internal error: {error}")
                if not loan.engine.done():
                    loan.engine.set_exception(error)

    async def _lend(self, first: _Loan[E], engine: E) -> None:
        loan = first
        while True:
            if not loan.engine.done():  # who waited may have left
                loan.engine.set_result(engine)
            await loan.over.wait()
            try:
                async with asyncio.timeout(self._idle_s):
                    loan = await self._asked.get()
            except TimeoutError:
                return
