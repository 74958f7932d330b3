"""A conversation follows whoever calls in one room soon after they left another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from roomtone.core.arbitration import Kind
from roomtone.core.machine import Mode, State
from roomtone.flow import Event, Feed, beside


class Following:
    """Brings what was talked of elsewhere at most ``within_s`` ago to a call that this room answers, or to a press.

    ``bring`` asks the house for it. ``idle_s`` says how long ago somebody was last answered here (None: never): an
    own conversation that is fresher than any other stays. Speech alone brings nothing, a television might.
    """

    def __init__(
        self,
        feed: Feed,
        within_s: float,
        bring: Callable[[float], Awaitable[object]],
        idle_s: Callable[[], float | None],
    ) -> None:
        self._feed = feed
        self._within_s = within_s
        self._bring = bring
        self._idle_s = idle_s
        self._mode = Mode.IDLE

    async def run(self) -> None:
        """Follow callers for as long as this runs."""
        async with beside(self._feed.attend("following", "state.changed", self._see), "following presses"):
            await self._feed.attend("following", "wake.won", self._hear)

    async def _hear(self, event: Event) -> None:
        if event.data.kind is Kind.WAKE:
            await self._follow()

    async def _see(self, event: Event) -> None:
        """Notice a press: only a voice's call has a number."""
        state: State = event.data
        before, self._mode = self._mode, state.mode
        if before is Mode.IDLE and state.mode is Mode.LISTENING and state.called and not state.call:
            await self._follow()

    async def _follow(self) -> None:
        idle_s = self._idle_s()
        within_s = self._within_s if idle_s is None else min(self._within_s, idle_s)
        if within_s > 0:
            await self._bring(within_s)
