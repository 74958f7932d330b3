"""The sound card, through PortAudio. A card that is lost is reopened by name for as long as it takes.

Who can do without one for a while (``waiting``) gets what is there of it: half a card is better than none, since a
room that cannot hear can still say so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from pydantic import Field

from roomtone.core.errors import AudioError, EngineTimeout, EngineUnavailable
from roomtone.core.playback import Playback
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.audio import _line
from roomtone.engines.audio._card import CardMicrophone, call, precede
from roomtone.engines.audio._line import INPUT, OUTPUT, Line
from roomtone.engines.audio._speaker import Speaker
from roomtone.flow import Worker, beside, keep_trying, worker

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often a card is asked for signs of life."""

LOST_BOUND_S = 5.0
"""How long a turn waits for a lost card before it fails."""

CALL_BOUND_S = 15.0
LONGEST_SILENCE_S = 600.0
DEAD_SILENT = "microphone dead silent"

SELDOM_S = 60.0
"""A half that is missing is looked for this seldom where nothing tells of it: the other half is silent meanwhile."""


class Settings(EngineSettings):
    """Which devices: ``default``, or part of a name that ``roomtone doctor`` lists.

    ``latency_s`` is how much sound the card is given in advance: less is quicker, more survives a busy machine. A
    microphone that gives exact zeros for ``silence_s`` is dead (a living one always has noise) and is reopened, the
    next time after twice as long; 0 turns that off, for microphones with a switch.
    """

    input: str = "default"
    output: str = "default"
    latency_s: float = Field(0.06, gt=0, le=1)
    silence_s: float = Field(10.0, ge=0)


def missing(settings: Settings) -> str | None:
    """Return whether PortAudio, a microphone or a loudspeaker is missing, and what mends it."""
    absent = lacking("sounddevice") or lacking("soxr")
    if absent is not None:
        return absent
    try:
        sound = _line.portaudio()
        for kind in (INPUT, OUTPUT):
            kind.find(sound, getattr(settings, kind.setting))
    except AudioError as error:
        return error.message
    return None


def devices() -> list[tuple[str, int, int]]:
    """List what PortAudio finds: name, channels in, channels out. Raises AudioError where the library is absent."""
    found = _line.portaudio().query_devices()
    return [(one["name"], one["max_input_channels"], one["max_output_channels"]) for one in found]


class SoundCard:
    """The engine's device: microphone and loudspeaker that outlive the card behind them.

    With ``halves`` it takes a card of which one half is not there, and looks for that one from time to time.
    """

    def __init__(self, settings: Settings, portaudio: Worker, *, halves: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.microphone = CardMicrophone()
        self.loudspeaker = Speaker(Playback())
        self._trouble = ""
        self._deaf = self._told_of_haste = False
        self._settings = settings
        self._portaudio = portaudio
        self._halves = halves
        self._line: Line | None = None
        self._silence_s = settings.silence_s

    @property
    def health(self) -> str:
        """``ok``, or what is wrong in a few words."""
        if self._trouble:
            return self._trouble
        deaf = self._deaf and self._line is not None and not self._line.hears
        return DEAD_SILENT if deaf else "ok"

    def moved(self) -> None:
        """Tell whoever waits for the loudspeaker; called on the card's thread."""
        call(self.loop, self.loudspeaker.moved)

    def hurry(self) -> None:
        """Let the thread that calls this, one of the card's, run before all others, where that is allowed."""
        call(self.loop, partial(self._hurried, precede()))

    def _hurried(self, hindrance: str | None) -> None:
        if hindrance is not None and not self._told_of_haste:
            self._told_of_haste = True
            log.info("%s", hindrance)

    async def open(self) -> None:
        """Open the card. Raises AudioError or EngineTimeout."""
        await self._portaudio.call(self._connect, timeout=CALL_BOUND_S)
        assert self._line is not None
        lacks = self._line.lacks
        self.loudspeaker.latency_s = self._line.latency_s
        self.loudspeaker.lost(lacks[OUTPUT].message if OUTPUT in lacks else None)
        self._trouble = "; ".join(error.message for error in lacks.values())

    async def open_or_wait(self) -> None:
        """Open what is there of the card; ``keep_open`` waits for the rest."""
        try:
            await self.open()
        except (AudioError, EngineTimeout) as error:
            self._trouble = error.message
            self.loudspeaker.lost(error.message)
        if self._trouble:
            log.warning("%s; waiting for it", self._trouble)

    async def close(self) -> None:
        """Give the card back, even one whose opening was still under way when its caller was cancelled."""
        await self._portaudio.call(self._hang_up, timeout=CALL_BOUND_S)

    def _connect(self) -> None:
        line = Line(self._settings, self, self._silence_s)
        if line.lacks and not (self._halves and line.names):
            line.close()
            raise _line.nothing_of(line)
        self._line = line

    def _hang_up(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close()

    async def keep_open(self) -> None:
        """Watch over the card for ever: reopen it when it is lost, and wait for what is not there."""
        while True:
            before = self._trouble
            if self._line is not None and (lost := await self._until_it_matters(self._line)) is not None:
                log.warning("%s (%s); reopening", lost, ", ".join(self._line.names))
                before = self._trouble = f"{lost}, reopening"
            await self._reopen()
            if self._trouble != before and self._line is not None:
                lacks = f"; {self._trouble}" if self._trouble else ""
                log.warning("the sound card is open (%s)%s", ", ".join(self._line.names), lacks)

    async def _until_it_matters(self, line: Line) -> str | None:
        """Return what is wrong with the card once something is; None where the half that it lacks may be there."""
        again_at = self.loop.time() + SELDOM_S
        while (trouble := self._look()) is None:
            await asyncio.sleep(LOOK_S)
            may_be_there = line.lacks and (self.loop.time() >= again_at or _line.cards() != line.cards)
            if may_be_there and self.loudspeaker.playback.silent:
                return None
        return trouble

    def _look(self) -> str | None:
        assert self._line is not None
        trouble = self._line.trouble()
        if self._deaf and self._line.hears:
            self._deaf, self._silence_s = False, self._settings.silence_s
        if trouble == DEAD_SILENT:
            if not self.loudspeaker.playback.silent:
                return None  # it can wait until nobody listens to the loudspeaker
            self._deaf = True
            self._silence_s = min(2 * self._silence_s, LONGEST_SILENCE_S)
        return trouble

    async def _reopen(self) -> None:
        giving_up = self.loop.call_later(LOST_BOUND_S, self._give_up)
        try:
            await keep_trying(self._try_again, on=(AudioError, EngineTimeout), notice=self._still_lost)
        finally:
            giving_up.cancel()

    async def _try_again(self) -> None:
        await self.close()
        await self._portaudio.call(_line.restart, timeout=CALL_BOUND_S)
        await self.open()

    def _still_lost(self, error: Exception, pause: float) -> None:
        self._trouble = str(error)
        if self.loudspeaker.trouble is not None:
            self.loudspeaker.lost(str(error))
        log.debug("%s; trying again in %.1f s", error, pause)

    def _give_up(self) -> None:
        if self.loudspeaker.trouble is not None:
            return
        self.loudspeaker.stop()
        self.loudspeaker.lost("the sound card is lost and has not come back; check its plug and power")


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[SoundCard]:  # noqa: A001  # every engine's verb
    """Open the card. Raises AudioError where a device is absent, in use or refuses."""
    async with _opened(settings, halves=False) as card:
        yield card


@asynccontextmanager
async def waiting(settings: Settings) -> AsyncIterator[SoundCard]:
    """Open what is there of the card, and the rest once it comes; the card's health says what is missing.

    Raises EngineUnavailable where a Python package is: that does not come by itself.
    """
    absent = lacking("sounddevice") or lacking("soxr")
    if absent is not None:
        raise EngineUnavailable(f"audio engine 'sounddevice': {absent}", seam="audio", engine="sounddevice")
    async with _opened(settings, halves=True) as card:
        yield card


@asynccontextmanager
async def _opened(settings: Settings, *, halves: bool) -> AsyncIterator[SoundCard]:
    with worker("portaudio") as portaudio:
        card = SoundCard(settings, portaudio, halves=halves)
        try:
            await (card.open_or_wait() if halves else card.open())
            async with beside(card.keep_open(), "sound card"):
                yield card
        finally:
            try:
                await card.close()
            except EngineTimeout as error:
                log.warning("the sound card was left open: %s", error.message)
