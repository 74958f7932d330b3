"""Speech to train a recogniser on: our phrases in many synthetic voices, as microphones in rooms would hear them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from roomtone.core.dialog import Voice
from roomtone.core.room import active_dbfs, convolve, impulse_response
from roomtone.core.sound import RATE, Audio, join
from roomtone.engines.tts.espeak import Library

Floats = npt.NDArray[np.float64]

ACCENTS = ("en-us", "en-us-nyc", "en", "en-gb-x-rp", "en-gb-scotland", "en-gb-x-gbclan", "en-029")
VARIANTS = (
    *("m2", "m4", "m6", "m8", "f1", "f4", "adam", "Alex", "Andrea", "Andy", "anika", "Annie"),
    *("antonio", "belinda", "benjamin", "ed", "edward", "Gene", "Hugo", "iven", "john", "klatt2", "klatt4"),
    *("Lee", "marcelo", "Marco", "max", "Michael", "michel", "Mike", "norbert", "pablo", "paul", "pedro"),
    *("ian", "rob", "robert", "shelby", "steph", "travis", "zac"),
)
VOICES = ("en-us", *(f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS))
"""Voices of espeak-ng to train on. Its "en" is British. Its breathy variants differ from run to run: none is here."""

PIPER_LENGTHS = (0.85, 0.93, 1.08, 1.2)
"""Length scales that the Piper voices speak at; 1.0 is left for tests."""

LONGEST_S = 5.9
"""Of a clip: what the recogniser can hold."""

AUDIBLE = 100
"""Of the int16 range: speech begins and ends where it is louder."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording: 16 kHz in [-1, 1], the number of the phrase said in it (None: none), from when to when."""

    samples: npt.NDArray[np.float32]
    phrase: int | None
    start_s: float
    end_s: float


# ----------------------------------------------------------------------------------------- speakers


def said(text: str, voice: Voice) -> Floats:
    """Return a text said by an espeak-ng voice: 16 kHz, int16 range, no silence around it."""
    pieces: list[Audio] = []
    _espeak().say(text, voice, pieces.append, threading.Event())
    return _trimmed(join(pieces, 22_050))


def said_by_piper(text: str, network: Path, length: float = 1.0) -> Floats:
    """Return a text said by a Piper voice, like ``said``."""
    from piper import SynthesisConfig

    chunks = _piper(network).synthesize(text, SynthesisConfig(length_scale=length))
    return _trimmed(join([Audio(chunk.audio_int16_array, chunk.sample_rate) for chunk in chunks]))


_espeak = functools.cache(Library)


@functools.cache
def _piper(network: Path) -> Any:
    from piper import PiperVoice

    return PiperVoice.load(network)


def _trimmed(audio: Audio) -> Floats:
    samples = soxr.resample(audio.samples.astype(np.float64), audio.rate, RATE)
    loud = np.flatnonzero(np.abs(samples) > AUDIBLE)
    trimmed: Floats = samples[max(0, loud[0] - 160) : loud[-1] + 320]
    return trimmed


# ------------------------------------------------------------------------------------------- rooms


def in_a_room(speech: Floats, phrase: int | None, random: np.random.Generator) -> Clip:
    """Return a recording of ``speech`` (int16 range) by some microphone, somewhere in some room."""
    if random.random() < 0.5:
        speech = soxr.resample(speech, 100, random.integers(92, 109))
    if random.random() < 0.4:
        speech = _through_a_cheap_microphone(speech, random)
    tail = 0
    if random.random() < 0.6:
        response = impulse_response(random.uniform(0.3, 3), random.uniform(0.15, 0.6), int(random.integers(1 << 30)))
        tail = min(len(response), RATE // 4)
        speech = convolve(speech, response)[: len(speech) + tail]
    spare = max(0.0, LONGEST_S - len(speech) / RATE)
    lead = min(_around(random, 0.15, 0.6, most=1.2), spare)
    rest = min(_around(random, 0.1, 0.8, most=1.5), spare - lead)
    whole = np.pad(speech, (round(lead * RATE), round(rest * RATE)))
    level = active_dbfs(speech)
    if random.random() < 0.9:
        whole = whole + noise(len(whole), level - random.uniform(6, 50), random)
    samples = _recorded(whole * 10 ** ((random.uniform(-45, -12) - level) / 20))
    return Clip(samples, phrase, lead, lead + (len(speech) - tail) / RATE)


def without_speech(random: np.random.Generator) -> Clip:
    """Return a recording of a room in which nobody speaks."""
    length = round(random.uniform(0.3, LONGEST_S) * RATE)
    whole = noise(length, random.uniform(-85, -25), random) * (random.random() > 0.1)
    for _ in range(random.integers(0, 3)):
        at = int(random.integers(length))
        whole[at:] += _thump(length - at, random)
    return Clip(_recorded(whole), None, 0.0, length / RATE)


def noise(length: int, dbfs: float, random: np.random.Generator) -> Floats:
    """Return noise at a level (int16 range): white, or falling as rooms' noise does, or with the hum of mains."""
    spectrum = np.fft.rfft(random.standard_normal(length))
    kind = random.integers(4)
    if kind:
        steepness = random.uniform(0.3, 1.0)
        spectrum *= np.maximum(np.fft.rfftfreq(length, 1 / RATE), 50) ** -steepness
    sound = np.fft.irfft(spectrum, length)
    if kind == 1:
        phase = 2 * np.pi * random.choice([50, 60]) * np.arange(length) / RATE
        sound = 0.3 * sound / np.std(sound) + np.sin(phase) + 0.5 * np.sin(2 * phase)
    scaled: Floats = sound * (32768 * 10 ** (dbfs / 20) / (np.sqrt(np.mean(sound**2)) + 1e-12))
    return scaled


def _thump(length: int, random: np.random.Generator) -> Floats:
    """Return something put down, a click, or a beep: it starts at once and dies away."""
    decay = np.exp(-np.arange(length) / (RATE * random.uniform(0.005, 0.15)))
    if random.random() < 0.3:
        sound = np.sin(2 * np.pi * random.uniform(200, 2000) * np.arange(length) / RATE)
    else:
        sound = random.standard_normal(length)
    thump: Floats = sound * decay * 32768 * 10 ** (random.uniform(-50, -12) / 20)
    return thump


def _around(random: np.random.Generator, least: float, usual: float, most: float) -> float:
    """Return seconds of silence beside an utterance: mostly as the ears cut it, sometimes anything."""
    return random.uniform(least, usual) if random.random() < 0.75 else random.uniform(0, most)


def _through_a_cheap_microphone(speech: Floats, random: np.random.Generator) -> Floats:
    """Take away lows and highs, 12 dB an octave beyond two random corners."""
    spectrum, hertz = np.fft.rfft(speech), np.fft.rfftfreq(len(speech), 1 / RATE)
    low, high = random.uniform(60, 300), random.uniform(3000, 7500)
    gain = 1 / np.sqrt((1 + (low / np.maximum(hertz, 1)) ** 4) * (1 + (hertz / high) ** 4))
    return np.fft.irfft(spectrum * gain, len(speech))


def _recorded(samples: Floats) -> npt.NDArray[np.float32]:
    return (np.clip(np.round(samples), -32768, 32767) / 32768).astype(np.float32)


# -------------------------------------------------------------------------------------------- clips


@dataclass(frozen=True, slots=True)
class Amount:
    """How much to make: voices a phrase, recordings a rendering, and recordings of nobody speaking."""

    voices: int = 32
    recordings: int = 2
    silences: int = 900


USUAL = Amount()


def clips(phrases: list[str], piper_voices: list[Path], amount: Amount, seed: int) -> Iterator[Clip]:
    """Yield all recordings to train on; the same for the same arguments."""
    random = np.random.default_rng(seed)
    for number, phrase in enumerate(phrases):
        renderings = [
            _somehow(phrase, voice, random) for voice in random.choice(VOICES, amount.voices, replace=False)
        ]
        renderings += [said_by_piper(phrase, voice, scale) for voice in piper_voices for scale in PIPER_LENGTHS]
        for speech in renderings:
            for _ in range(amount.recordings):
                yield in_a_room(speech, number, random)
    for _ in range(amount.silences):
        yield without_speech(random)


def _somehow(phrase: str, voice: str, random: np.random.Generator) -> Floats:
    """Say a phrase at some speed and pitch, or at the voice's own."""
    if random.random() < 0.3:
        return said(phrase, Voice(voice_id=voice))
    return said(phrase, Voice(voice_id=voice, speed=random.uniform(0.75, 1.2), pitch=random.uniform(0.5, 1.5)))
