"""A clock that skips waiting: an event loop on which a minute of conversation passes as fast as the work in it.

While nothing but timers is awaited, the loop jumps to the next timer. While an engine works (``engine_working``),
time passes as on the wall, so an engine's slowness is felt in the conversation just as it would be in a room.
"""

from __future__ import annotations

import asyncio
import selectors
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")

LONGEST_WAIT_S = 1.0
"""Bound on one real wait, so that a lost wake-up costs a second and not the run."""


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop with a virtual clock.

    With ``counts_work`` the time that callbacks take passes too, so latencies are what they would be at
    real-time pace; without it they take no time, and a run with scripted engines is deterministic.
    """

    def __init__(self, counts_work: bool) -> None:
        self._engines = 0
        self._skipped = 0.0
        self._started = time.monotonic()
        self._born = datetime.now(UTC)
        self._counts_work = counts_work
        super().__init__(_SkippingSelector(self))

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._skipped + (time.monotonic() - self._started if self._counts_work else 0.0)

    def utc_now(self) -> datetime:
        """Return the time of day that goes with ``time``."""
        return self._born + timedelta(seconds=self.time())

    def set_clock(self, at: datetime) -> None:
        """Set the time of day, as a time server does; ``time`` goes on as it was."""
        self._born = at - timedelta(seconds=self.time())

    def skip(self, seconds: float) -> None:
        """Let virtual time pass without waiting."""
        self._skipped += seconds

    def pass_real(self, seconds: float) -> None:
        """Note that ``seconds`` were really waited."""
        if not self._counts_work:
            self._skipped += seconds

    @property
    def engines_working(self) -> bool:
        """Whether some engine's work is being awaited."""
        return self._engines > 0

    def engine_started(self) -> None:
        """Count an engine's work as begun."""
        self._engines += 1

    def engine_ended(self) -> None:
        """Count an engine's work as done."""
        self._engines -= 1


class _SkippingSelector(selectors.DefaultSelector):
    def __init__(self, loop: SkippingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return super().select(0)
        if timeout is not None and not self._loop.engines_working:
            ready = super().select(0)
            if not ready:
                self._loop.skip(timeout)
            return ready
        before = time.monotonic()
        ready = super().select(LONGEST_WAIT_S if timeout is None else min(timeout, LONGEST_WAIT_S))
        self._loop.pass_real(time.monotonic() - before)
        return ready


def utc_now() -> datetime:
    """Return the present in UTC; on a virtual clock, the start of the run and what has passed on it since."""
    loop = asyncio.get_running_loop()
    return loop.utc_now() if isinstance(loop, SkippingLoop) else datetime.now(UTC)


def elapsed() -> float:
    """Return seconds that nobody can set: they go on through suspension, and no time server moves them."""
    loop = asyncio.get_running_loop()
    return loop.time() if isinstance(loop, SkippingLoop) else time.clock_gettime(time.CLOCK_BOOTTIME)


@contextmanager
def engine_working() -> Iterator[None]:
    """Mark that the calling task awaits an engine, a file or another process: time passes as on the wall."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, SkippingLoop):
        yield
        return
    loop.engine_started()
    try:
        yield
    finally:
        loop.engine_ended()


def run_skipping(main: Coroutine[Any, Any, T], *, counts_work: bool = True) -> T:
    """Run a coroutine on a virtual clock and return its result (as ``asyncio.run`` does)."""
    with asyncio.Runner(loop_factory=lambda: SkippingLoop(counts_work)) as runner:
        return runner.run(main)
