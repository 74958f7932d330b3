"""Quiet hours: the voice is lowered, chimes are dropped, and what nobody asked for waits until they are over.

They are the household's, those of the persona that speaks, and a while that a schedule, an event or a button began.
Answers to people are given at once, only softer, and what rings rings as ever. What waits, and the end of a
while, outlive a power cut.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from roomtone.clock import elapsed, utc_now
from roomtone.core.dialog import Source
from roomtone.core.errors import StoreError
from roomtone.core.persona import Persona, QuietHours
from roomtone.core.schedule import Action
from roomtone.core.signals import Prompt, Signal
from roomtone.store import Store

log = logging.getLogger(__name__)

WHILE = "quiet/while"
HELD = "quiet/held"
"""Keys under which the store keeps a while of quiet, and what waits for the end of quiet hours."""

LONGEST_WAIT_S = 60.0
"""A clock may be set, and a persona with other hours may speak, at any time: look again this often."""

ALWAYS_KEPT = ("text", "source", "verbatim", "routine")
KEPT = (*ALWAYS_KEPT, "chime", "sound", "persona")
"""What the store keeps of a text that waits. The sound itself is in memory alone: after a power cut it is gone."""

WAITING = 20
"""Texts that wait at most, each once: nobody wants to hear all that a night brought. The oldest is dropped."""

ASKED_FOR = (Source.BUTTON, Source.VOICE)
"""What a person does in the room is answered at once."""


async def _stays(_: str) -> None:
    pass


class Quiet:
    """Knows whether it is quiet, and lets through or holds what the room says by itself.

    ``hours`` are the household's, and hold where it ``is_known`` what time it is. ``speaker`` returns who speaks, and
    is set once somebody does; so is ``hand_off``, which lets the conversation go on in a room, or returns why it does
    not.
    """

    def __init__(
        self,
        hours: QuietHours | None,
        zone: ZoneInfo,
        store: Store,
        post: Callable[[Signal], None],
        is_known: Callable[[], bool] = lambda: True,
    ) -> None:
        self.speaker: Callable[[], Persona | None] = lambda: None
        self.hand_off: Callable[[str], Awaitable[str | None]] = _stays
        self._hours = hours
        self._zone = zone
        self._store = store
        self._post = post
        self._is_known = is_known
        self._ends: float | None = None
        self._held: list[Prompt] = []
        self._changed = asyncio.Event()

    def now(self) -> bool:
        """Say whether it is quiet."""
        return any(True for _ in self._volumes())

    def volume(self) -> float:
        """Return the factor by which the voice is lowered; 1 where it is not."""
        return min(self._volumes(), default=1.0)

    def _volumes(self) -> Iterator[float]:
        """Yield the volume of all quiet hours that it is in."""
        at = utc_now().astimezone(self._zone).time()
        speaker = self.speaker()
        for hours in (self._hours, speaker.quiet_hours if speaker else None):
            if hours is not None and hours.holds(at) and self._is_known():
                yield hours.volume
        if self._ends is not None and elapsed() < self._ends:
            yield self._hours.volume if self._hours else QuietHours.model_fields["volume"].default

    # ------------------------------------------------------------------------------------------- change

    async def act(self, action: Action, source: Source, cause: str, ticket: str | None = None) -> bool:
        """Do what an action says; its words wait in quiet hours, unless it is urgent or somebody pressed for it.

        ``cause`` says for the record what asked for it; its last words bear the ``ticket``. Return whether it has
        words that do not wait. Raises StoreError, with all done but what should have been kept.
        """
        for signal in action.switch(source, cause):
            self._post(signal)
        words, asked_for = action.words(source, ticket), source in ASKED_FOR
        try:
            said = await self.announce(words, urgent=action.urgent or asked_for)
            refusal = await self.hand_off(action.handoff) if action.handoff is not None else None
            told = [Prompt(refusal, source, verbatim=True)] if refusal is not None else []
            return await self.announce(told, urgent=asked_for) or said
        finally:
            if action.quiet_min is not None:
                await self.keep_for(action.quiet_min * 60)

    async def announce(self, prompts: Sequence[Prompt], *, urgent: bool = False) -> bool:
        """Say or ask what nobody in the room asked for: now, or when quiet hours are over.

        Return whether anything is said now. Raises StoreError where what waits cannot be kept; it waits all the same.
        """
        if not prompts or urgent or not self.now():
            for prompt in prompts:
                self._post(prompt)
            return bool(prompts)
        self._hold(prompts)
        await self._keep_held()
        return False

    def mention(self, prompt: Prompt) -> None:
        """Say or ask what is worth no more than this run of the program: now, or when quiet hours are over."""
        if self.now():
            self._hold([prompt])
        else:
            self._post(prompt)

    def _hold(self, prompts: Sequence[Prompt]) -> None:
        fresh = [replace(each, ticket=None, alarm=None, kept=True) for each in prompts]
        self._held = [*(held for held in self._held if held not in fresh), *fresh]
        for dropped in self._held[:-WAITING]:
            log.warning(
                "too much waits for the end of quiet hours; this is not said: %s", dropped.text or dropped.routine
            )
        self._held = self._held[-WAITING:]
        self._changed.set()

    async def keep_for(self, seconds: float) -> None:
        """Be quiet for a while from now on, beside all quiet hours; 0 ends such a while. Raises StoreError."""
        self._ends = elapsed() + seconds if seconds else None
        self._changed.set()
        now = utc_now()
        ends = now + timedelta(seconds=seconds)
        kept = {"since": now.isoformat(), "until": ends.isoformat()} if seconds else None
        if kept is not None or await self._store.kept(WHILE) is not None:
            await self._store.keep(WHILE, kept)

    # ---------------------------------------------------------------------------------------------- run

    async def recall(self) -> None:
        """Take up what was kept when the room was last on; a while goes on for what it has left, by the clock."""
        try:
            held, kept = await self._store.kept(HELD), await self._store.kept(WHILE)
        except StoreError as error:
            log.error("quiet hours are not taken up: %s", error.message)
            return
        self._held = [
            Prompt(**{key: each[key] for key in KEPT if key in each} | {"source": Source(each["source"])})
            for each in held or ()
        ]
        if kept is not None:
            since, until = datetime.fromisoformat(kept["since"]), datetime.fromisoformat(kept["until"])
            left = min(until - utc_now(), until - since)  # a clock that is wrong must not keep the room quiet
            self._ends = elapsed() + left.total_seconds()

    async def run(self) -> None:
        """Say what waits once it is quiet no more, for as long as this runs."""
        while True:
            self._changed.clear()
            if self._held and not self.now():
                await self._release()
            try:
                async with asyncio.timeout(LONGEST_WAIT_S if self._held else None):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _release(self) -> None:
        released, self._held = self._held, []
        for prompt in released:
            self._post(prompt)
        try:
            await self._keep_held()
        except StoreError as error:
            log.error("what was held in quiet hours may be said again: %s", error.message)

    async def _keep_held(self) -> None:
        held: list[dict[str, Any]] = [
            {key: getattr(held, key) for key in KEPT if key in ALWAYS_KEPT or getattr(held, key)}
            for held in self._held
        ]
        await self._store.keep(HELD, held or None)
