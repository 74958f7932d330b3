"""The loop-back check: the loudspeaker chirps, the microphone hears it; what lies between them is measured."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from roomtone.conversation import Conversation
from roomtone.core.chirp import chirp, find
from roomtone.core.errors import AudioError, RoomBusy, UsageError
from roomtone.core.machine import Mode
from roomtone.core.sound import RATE, SILENT_DBFS, Samples, join, level
from roomtone.engines.audio import Capture, Loudspeaker
from roomtone.mouth import softer

BEFORE_S, AFTER_S = 0.5, 1.2
"""What is heard of the room before the chirp, and after it has left the loudspeaker."""

LISTEN_S, FIRST_SOUND_S = 1.5, 4.0
"""How long a microphone is listened to, and how long a block may take to come: sound servers need 1.5 s."""

FULL_SCALE = 32_700
"""From which sample on a microphone is at its end."""

BOUND_S = 15.0
"""Longest that it may all take: a sound server's first block comes after 1.5 s, its last sample a second late."""

FREE_S = 20.0
"""Longest that somebody who asks for a chirp waits until nobody talks."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a microphone gave: for how long, how loud, its loudest sample, which share of it was at its end.

    ``dead``: nothing but zeros, which no living microphone gives.
    """

    seconds: float
    dbfs: float
    peak_dbfs: float
    clipped: float
    dead: bool

    @staticmethod
    def of(samples: Samples) -> Heard:
        """Look at what was heard, at 16 kHz."""
        sizes = np.abs(samples.astype(np.int32))
        peak = int(sizes.max()) if len(sizes) else 0
        return Heard(
            seconds=len(samples) / RATE,
            dbfs=round(level(samples), 1),
            peak_dbfs=round(20 * math.log10(peak / 32768), 1) if peak else SILENT_DBFS,
            clipped=float(np.mean(sizes >= FULL_SCALE)) if len(sizes) else 0.0,
            dead=peak == 0,
        )


@dataclass(frozen=True, slots=True)
class LoopBack:
    """What came of a chirp (see ``core.chirp.Echo``).

    ``tried``: it was to be played. Else ``why`` not: ``muted``, ``quiet hours`` or ``volume`` (it is 0).
    ``room_dbfs`` is how loud the room was before.
    """

    tried: bool
    heard: bool = False
    why: str | None = None
    delay_ms: float | None = None
    level_db: float | None = None
    sure_db: float | None = None
    room_dbfs: float | None = None


class Tape:
    """Keeps what a microphone hears, beside what its loudspeaker is given, and lets somebody wait for it."""

    def __init__(self) -> None:
        self._captures: list[Capture] = []
        self._news = asyncio.Event()
        self._is_cut = False

    @property
    def near(self) -> Samples:
        """What the microphone heard, at 16 kHz."""
        return join(capture.near for capture in self._captures).samples

    @property
    def far(self) -> Samples:
        """What the loudspeaker was given meanwhile."""
        return join(capture.far for capture in self._captures).samples

    @property
    def seconds(self) -> float:
        """How much there is."""
        return sum(capture.near.seconds for capture in self._captures)

    @property
    def last_dbfs(self) -> float:
        """How loud the last block was."""
        return self._captures[-1].near.dbfs

    def take(self, capture: Capture) -> None:
        """Take a block."""
        self._captures.append(capture)
        self._news.set()

    def cut(self) -> None:
        """Take no more: who waits for more gets RoomBusy."""
        self._is_cut = True
        self._news.set()

    async def more(self, seconds: float) -> None:
        """Wait for so much more sound. Raises RoomBusy where the tape was cut."""
        wanted = self.seconds + seconds
        while self.seconds < wanted:
            if self._is_cut:
                raise RoomBusy("somebody began to use the room; try again in a moment")
            self._news.clear()
            await self._news.wait()

    async def grows(self, within_s: float) -> bool:
        """Wait for the next block; False where none comes in time."""
        self._news.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._news.wait()
        except TimeoutError:
            return False
        return True


async def measure(tape: Tape, loudspeaker: Loudspeaker, volume: float = 1.0) -> LoopBack:
    """Chirp, at most as loud as a ``volume`` of 1, and look for it on a tape that runs.

    Raises AudioError where the microphone gives no sound or the loudspeaker takes none.
    """
    if loudspeaker.volume == 0:
        return LoopBack(tried=False, why="volume")
    try:
        async with asyncio.timeout(BOUND_S):
            await tape.more(BEFORE_S)
            before = len(tape.near)
            await loudspeaker.play(softer(chirp(), volume))
            await loudspeaker.drained()
            await tape.more(AFTER_S)
    except TimeoutError:
        what = "the loudspeaker takes" if len(tape.near) else "the microphone gives"
        raise AudioError(f"{what} no sound; check its plug, or see: roomtone doctor --only devices") from None
    near = tape.near
    echo = find(near, tape.far)
    return LoopBack(
        tried=True,
        heard=echo.heard,
        why=None if echo.played else "not played",
        delay_ms=echo.delay_ms,
        level_db=echo.level_db,
        sure_db=echo.sure_db,
        room_dbfs=round(level(near[:before]), 1),
    )


# ------------------------------------------------------------------------------------- in a room that runs


async def in_room(conversation: Conversation, *, even_quiet: bool = False) -> LoopBack:
    """Chirp in a running room, once nobody talks there; meanwhile, some two seconds, it listens to nobody.

    A muted room is left alone, and so it is in quiet hours unless ``even_quiet``; then it chirps softly.
    Raises RoomBusy where the room does not come to rest in ``FREE_S`` or is used meanwhile, and what ``measure``
    raises.
    """
    parts = conversation.parts
    if conversation.state.muted:
        return LoopBack(tried=False, why="muted")
    if parts.quiet.now() and not even_quiet:
        return LoopBack(tried=False, why="quiet hours")
    await _free(conversation)
    with _only_taping(conversation, Tape()) as tape:
        return await measure(tape, parts.mouth.loudspeaker, parts.quiet.volume())


async def _free(conversation: Conversation) -> None:
    """Wait until nobody talks. Raises RoomBusy."""
    try:
        with conversation.parts.feed.watch("state.changed") as changes:
            async with asyncio.timeout(FREE_S):
                if conversation.state.mode is Mode.IDLE:
                    return
                async for change in changes:
                    if change.data.mode is Mode.IDLE:
                        return
    except TimeoutError:
        raise RoomBusy("somebody talks with the room; try again in a moment") from None


@contextmanager
def _only_taping(conversation: Conversation, tape: Tape) -> Iterator[Tape]:
    """Let the ears keep a tape and hear nobody; who begins to use the room in other ways is listened to at once."""
    ears = conversation.parts.ears
    if ears.deaf:
        raise RoomBusy("somebody else has it chirp just now; try again in a moment")

    def take(capture: Capture) -> None:
        if conversation.state.mode is Mode.IDLE:
            tape.take(capture)
        else:  # a button was pressed, a timer rings
            ears.deaf = False
            tape.cut()

    ears.deaf = True
    try:
        with ears.taping(take):
            yield tape
    finally:
        ears.deaf = False


# --------------------------------------------------------------------------------- over the control socket


async def answer(request: dict[str, Any], conversation: Conversation) -> AsyncIterator[dict[str, Any]]:
    """Chirp for who asks over the control socket; with ``even_quiet`` softly in quiet hours too."""
    even_quiet = request.get("even_quiet", False)
    if not isinstance(even_quiet, bool):
        raise UsageError("even_quiet: give true or false")
    yield {"result": asdict(await in_room(conversation, even_quiet=even_quiet))}


async def levels(_: dict[str, Any], conversation: Conversation) -> AsyncIterator[dict[str, Any]]:
    """Tell how loud each block from the microphone is while the room goes on as ever, and then how it is in all.

    The result is a ``Heard``; None where the room is muted. What was heard itself stays here.
    """
    if conversation.state.muted:
        yield {"result": None}
        return
    tape = Tape()
    with conversation.parts.ears.taping(tape.take):
        while tape.seconds < LISTEN_S and await tape.grows(FIRST_SOUND_S):
            yield {"dbfs": round(tape.last_dbfs, 1)}
    yield {"result": asdict(Heard.of(tape.near))}
