"""The sound card, through PortAudio. A card that is lost is reopened by name for as long as it takes.

Who can do without one for a while (``waiting``) gets what is there of it: half a card is better than none, since a
room that cannot hear can still say so.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import Field

from roomtone.core.errors import AudioError, EngineTimeout, EngineUnavailable
from roomtone.core.playback import Playback
from roomtone.core.sound import RATE
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.audio._card import CardMicrophone, Ear, FarEnd, Mouth, call, precede
from roomtone.engines.audio._speaker import Speaker
from roomtone.engines.audio._vitals import Vitals
from roomtone.flow import Worker, beside, keep_trying, worker

log = logging.getLogger(__name__)

BLOCK_S = 0.020
LOOK_S = 0.5
"""How often a card is asked for signs of life."""

LOST_BOUND_S = 5.0
"""How long a turn waits for a lost card before it fails."""

CALL_BOUND_S = 15.0
LONGEST_SILENCE_S = 600.0
DEAD_SILENT = "microphone dead silent"

APT = "the PortAudio library is not installed; run: sudo apt install libportaudio2"
NO_DEVICE = "no {what} was found; plug one in and check that this lists it: {command}"
NO_CARD = (
    "no sound card was found; plug one in, or name its overlay in /boot/firmware/config.txt, "
    "and check that this lists it: aplay -l"
)

CARDS = Path("/proc/asound/cards")
"""What the kernel knows of: a half that is missing is looked for at once where this changes."""

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
        sound = _portaudio()
        for kind in (INPUT, OUTPUT):
            kind.find(sound, getattr(settings, kind.setting))
    except AudioError as error:
        return error.message
    return None


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep what ALSA writes to stderr, which it also returns as errors, for the debug log."""
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            kept.seek(0)
            for line in kept.read().decode(errors="replace").splitlines():
                log.debug("portaudio: %s", line)


def _portaudio() -> Any:
    """Import and so start PortAudio. Raises AudioError where the library is absent."""
    with _hushed():
        try:
            import sounddevice
        except OSError as error:
            raise AudioError(APT) from error
    return sounddevice


def devices() -> list[tuple[str, int, int]]:
    """List what PortAudio finds: name, channels in, channels out. Raises AudioError where the library is absent."""
    found = _portaudio().query_devices()
    return [(one["name"], one["max_input_channels"], one["max_output_channels"]) for one in found]


@dataclass(frozen=True, slots=True)
class Kind:
    """One of the two halves of a sound card, as PortAudio and a person call it."""

    setting: str
    what: str
    command: str

    def find(self, sound: Any, wanted: str) -> dict[str, Any]:
        """Return the device a setting means. Raises AudioError, with the names there are, where there is none."""
        try:
            there = [device for device in sound.query_devices() if device[f"max_{self.setting}_channels"] > 0]
            if wanted == "default" and there:
                return dict(sound.query_devices(kind=self.setting))
        except (ValueError, sound.PortAudioError) as error:
            raise AudioError(NO_DEVICE.format(what=self.what, command=self.command)) from error
        if not there:
            raise AudioError(NO_DEVICE.format(what=self.what, command=self.command))
        for device in sorted(there, key=lambda device: device["name"] != wanted):
            if wanted.lower() in device["name"].lower():
                return dict(device)
        names = ", ".join(f"'{device['name']}'" for device in there)
        raise AudioError(f"no {self.what} is called '{wanted}'; set audio.{self.setting} to part of one of {names}")

    def rate(self, sound: Any, device: dict[str, Any]) -> int:
        """Return 16000 where the device can, else its own rate: hardware without a sound server has few."""
        check = sound.check_input_settings if self.setting == "input" else sound.check_output_settings
        try:
            check(device=device["index"], channels=1, dtype="int16", samplerate=RATE)
        except sound.PortAudioError:
            return int(device["default_samplerate"])
        return RATE

    def refused(self, name: str, error: Exception) -> AudioError:
        """Return the error for a device that could not be opened."""
        if "unavailable" in str(error).lower() or "busy" in str(error).lower():
            cause = "is in use by another program; this lists which: fuser -v /dev/snd/*"
        else:
            cause = f"cannot be opened ({str(error).rstrip('.')}); try another audio.{self.setting}"
        return AudioError(f"the {self.what} '{name}' {cause}", device=name)


INPUT = Kind("input", "microphone", "arecord -l")
OUTPUT = Kind("output", "loudspeaker", "aplay -l")


class Line:
    """The open streams of a card. Everything here but ``trouble`` runs on the thread that may call PortAudio.

    ``lacks`` says of each half that could not be opened why.
    """

    def __init__(self, settings: Settings, device: SoundCard, silence_s: float) -> None:
        self._sound = sound = _portaudio()
        self._streams: dict[Kind, Any] = {}
        self._ended: list[str] = []
        self._loop, self._hurry = device.loop, device.hurry
        self.cards = _cards()
        self.names: list[str] = []
        self.lacks: dict[Kind, AudioError] = {}
        far, source, sink = FarEnd(), self._find(INPUT, settings.input), self._find(OUTPUT, settings.output)
        self._ear = Ear(source["rate"], far, device.microphone.block_s, device.microphone.take)
        self._mouth = Mouth(device.loudspeaker.playback, far, sink["rate"], device.moved)
        self._start(sound.RawOutputStream, OUTPUT, sink, settings.latency_s, self._to_card)
        self._start(sound.RawInputStream, INPUT, source, settings.latency_s, self._from_card)
        now = time.monotonic()
        self._vitals = (Vitals(source["rate"], now, silence_s or None), Vitals(sink["rate"], now))

    def _find(self, kind: Kind, wanted: str) -> dict[str, Any]:
        """Return the device that is meant, and the ``rate`` at which it is opened."""
        try:
            device = kind.find(self._sound, wanted)
        except AudioError as error:
            self.lacks[kind] = error
            return {"rate": RATE}
        return {**device, "rate": kind.rate(self._sound, device)}

    def _start(self, stream: Any, kind: Kind, device: dict[str, Any], latency: float, callback: Any) -> None:
        if kind in self.lacks:
            return
        rate = device["rate"]
        try:
            with _hushed():
                opened = stream(
                    samplerate=rate,
                    blocksize=round(rate * BLOCK_S),
                    device=device["index"],
                    channels=1,
                    dtype="int16",
                    latency=latency,
                    callback=callback,
                    finished_callback=lambda: self._ended.append(kind.what),
                )
                self._streams[kind] = opened
                opened.start()
                self.names.append(str(device["name"]))
        except (ValueError, self._sound.PortAudioError) as error:
            self.lacks[kind] = kind.refused(str(device["name"]), error)

    def _to_card(self, out: Any, frames: int, _time: Any, _status: Any) -> None:
        if not self._mouth.frames:
            self._hurry()
        out[:] = self._mouth.speak(frames)

    def _from_card(self, pcm: Any, frames: int, times: Any, _status: Any) -> None:
        if not self._ear.frames:
            self._hurry()
        age = times.currentTime - times.inputBufferAdcTime - frames / self._ear.rate
        late = age if times.inputBufferAdcTime > 0 and 0 <= age < 0.2 else 0.0  # some drivers give no or wrong stamps
        self._ear.hear(bytes(pcm), self._loop.time() - late)

    @property
    def latency_s(self) -> float:
        """How long a sample takes from the queue to the air."""
        return 0.0 if OUTPUT in self.lacks else float(self._streams[OUTPUT].latency)

    @property
    def hears(self) -> bool:
        """Whether the microphone has given anything but exact zeros since it was opened."""
        return self._ear.frames > self._ear.zeros

    def trouble(self) -> str | None:
        """Return what is wrong with the card, in a few words, or None."""
        if self._ended:
            return f"{self._ended[0]} lost"
        now = time.monotonic()
        if INPUT not in self.lacks:
            heard = self._vitals[0].judge(now, self._ear.frames, self._ear.zeros)
            if heard is not None:
                return f"microphone {heard}"
        spoken = self._vitals[1].judge(now, self._mouth.frames) if OUTPUT not in self.lacks else None
        return None if spoken is None else f"loudspeaker {spoken}"

    def close(self) -> None:
        """Give the card back; does not wait for what is still to be played."""
        for stream in self._streams.values():
            stream.abort()
            stream.close()
        self._streams.clear()


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
            raise _none_of_it(line)
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
            may_be_there = line.lacks and (self.loop.time() >= again_at or _cards() != line.cards)
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
        await self._portaudio.call(_restart, timeout=CALL_BOUND_S)
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


def _none_of_it(line: Line) -> AudioError:
    """Return the error for a line with which nothing can be done."""
    nothing = [NO_DEVICE.format(what=kind.what, command=kind.command) for kind in (INPUT, OUTPUT)]
    if [error.message for error in line.lacks.values()] == nothing:
        return AudioError(NO_CARD)
    return line.lacks.get(INPUT) or line.lacks[OUTPUT]


def _cards() -> str:
    try:
        return CARDS.read_text(errors="replace")
    except OSError:
        return ""


def _restart() -> None:
    """Let PortAudio look for devices anew: it lists them once, when it starts. No stream may be open."""
    sound = _portaudio()
    with _hushed():
        sound._terminate()  # noqa: SLF001  # the package has no public name for it
        sound._initialize()  # noqa: SLF001


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
