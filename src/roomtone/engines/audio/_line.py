"""A sound card as PortAudio gives it: its two halves by name, and the open streams of both."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from roomtone.core.errors import AudioError
from roomtone.core.sound import RATE
from roomtone.engines.audio._card import CardMicrophone, Ear, FarEnd, Mouth
from roomtone.engines.audio._speaker import Speaker
from roomtone.engines.audio._vitals import Vitals

log = logging.getLogger(__name__)

BLOCK_S = 0.020

APT = "the PortAudio library is not installed; run: sudo apt install libportaudio2"
NO_DEVICE = "no {what} was found; plug one in and check that this lists it: {command}"
NO_CARD = (
    "no sound card was found; plug one in, or name its overlay in /boot/firmware/config.txt, "
    "and check that this lists it: aplay -l"
)

CARDS = Path("/proc/asound/cards")
"""What the kernel knows of: a half that is missing is looked for at once where this changes."""


@contextmanager
def hushed() -> Iterator[None]:
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


def portaudio() -> Any:
    """Import and so start PortAudio. Raises AudioError where the library is absent."""
    with hushed():
        try:
            import sounddevice
        except OSError as error:
            raise AudioError(APT) from error
    return sounddevice


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


class Wanted(Protocol):
    """What of the settings a line needs."""

    @property
    def input(self) -> str:
        """Which microphone."""

    @property
    def output(self) -> str:
        """Which loudspeaker."""

    @property
    def latency_s(self) -> float:
        """How much sound the card is given in advance."""


class Owner(Protocol):
    """What the streams are opened for: it takes and gives the sound."""

    loop: asyncio.AbstractEventLoop
    microphone: CardMicrophone
    loudspeaker: Speaker

    def moved(self) -> None:
        """Note that the loudspeaker has taken sound; called on the card's thread."""

    def hurry(self) -> None:
        """Let the calling thread run before others; called on the card's threads, first of all."""


class Line:
    """The open streams of a card. Everything here but ``trouble`` runs on the thread that may call PortAudio.

    ``lacks`` says of each half that could not be opened why.
    """

    def __init__(self, settings: Wanted, device: Owner, silence_s: float) -> None:
        self._sound = sound = portaudio()
        self._streams: dict[Kind, Any] = {}
        self._ended: list[str] = []
        self._loop, self._hurry = device.loop, device.hurry
        self.cards = cards()
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
            with hushed():
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


def nothing_of(line: Line) -> AudioError:
    """Return the error for a line with which nothing can be done."""
    nothing = [NO_DEVICE.format(what=kind.what, command=kind.command) for kind in (INPUT, OUTPUT)]
    if [error.message for error in line.lacks.values()] == nothing:
        return AudioError(NO_CARD)
    return line.lacks.get(INPUT) or line.lacks[OUTPUT]


def cards() -> str:
    try:
        return CARDS.read_text(errors="replace")
    except OSError:
        return ""


def restart() -> None:
    """Let PortAudio look for devices anew: it lists them once, when it starts. No stream may be open."""
    sound = portaudio()
    with hushed():
        sound._terminate()  # noqa: SLF001  # the package has no public name for it
        sound._initialize()  # noqa: SLF001
