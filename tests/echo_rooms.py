"""Simulated rooms for the echo tests: a loudspeaker and a person before one microphone, all of it synthesised."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

import espeakng_loader
import numpy as np
import numpy.typing as npt
import soxr

from roomtone.core.sound import HOP, RATE

Floats = npt.NDArray[np.float64]

VOICES = ("en-us", "en-gb-x-rp", "en-us+f3", "en-us+m3", "en-gb-scotland+f2", "en-us+m7")

REPLIES = (
    "Your pasta timer is set for nine minutes. I will ring when it is done, and once more a minute later.",
    "It is twenty past four on a Saturday. The next alarm is tomorrow morning at seven, in the bedroom.",
    "You have three timers. The eggs have two minutes left, the bread has forty, and the washing half an hour.",
    "I did not find a recipe for that, but there is one for lentil soup with carrots, cumin and a little lemon.",
    "The living room is at twenty one degrees. I have turned the heating down by two, as you asked yesterday.",
    "Nothing is on the calendar before noon. Then there is the dentist at two and the choir at half past seven.",
)

COMMANDS = (
    "stop",
    "what time is it",
    "set a timer for ten minutes",
    "no wait, make it twelve",
    "cancel the alarm please",
    "hey, tell me something else",
    "turn it down",
    "how long is left on the eggs",
    "please be quiet now",
    "add milk and butter to the list",
    "okay thanks",
    "excuse me, what was that",
)


@functools.cache
def _espeak() -> tuple[ctypes.CDLL, int, list[bytes], object]:
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = library.espeak_Initialize(2, 20, espeakng_loader.get_data_path().encode(), 1 << 15)
    pieces: list[bytes] = []

    def collect(wav: object, count: int, events: object) -> int:
        if wav and count > 0:
            pieces.append(ctypes.string_at(wav, count * 2))  # type: ignore[arg-type]
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    return library, rate, pieces, kind(collect)


@functools.cache
def speech(text: str, voice: str, words_a_minute: int = 165) -> Floats:
    """Return a sentence as 16 kHz floats at about -20 dBFS active level (int16 range), edges of silence cut."""
    library, rate, pieces, callback = _espeak()
    pieces.clear()
    library.espeak_SetSynthCallback(callback)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise ValueError(f"espeak has no voice {voice}")
    library.espeak_SetParameter(1, words_a_minute, 0)
    content = text.encode() + b"\0"
    library.espeak_Synth(content, ctypes.c_size_t(len(content)), 0, 1, 0, 0x1001, None, None)
    sound = soxr.resample(np.frombuffer(b"".join(pieces), np.int16).astype(np.float64), rate, RATE)
    return sound * 3277 / active_rms(sound)


def active_rms(sound: Floats) -> float:
    """RMS of the 20 ms frames within 20 dB of the 95th percentile."""
    power = np.square(sound[: len(sound) // 320 * 320].reshape(-1, 320)).mean(1)
    return float(np.sqrt(power[power > np.quantile(power, 0.95) / 100].mean()))


def onset(sound: Floats) -> int:
    """First sample of the first 10 ms frame within 15 dB of the active level."""
    power = np.square(sound[: len(sound) // HOP * HOP].reshape(-1, HOP)).mean(1)
    return int(np.argmax(power > active_rms(sound) ** 2 / 10**1.5)) * HOP


@dataclass(frozen=True, slots=True)
class EchoRoom:
    """A room made from a seed: delay, reverberation, a distorting loudspeaker and noise."""

    seed: int
    rt60_s: float
    delay_s: float
    drive: float
    leak_db: float
    noise_db: float

    @staticmethod
    def of(seed: int) -> EchoRoom:
        """Draw a room."""
        rng = np.random.default_rng(seed)
        return EchoRoom(
            seed,
            rt60_s=float(rng.uniform(0.1, 0.45)),
            delay_s=float(rng.uniform(0.01, 0.12)),
            drive=float(rng.uniform(0.3, 2.5)),
            leak_db=float(rng.uniform(-25, -3)),
            noise_db=float(rng.uniform(-40, -20)),
        )

    def response(self, direct_to_reverberant_db: float, salt: int) -> Floats:
        """An impulse response: a direct sound and an exponentially decaying tail of coloured noise."""
        rng = np.random.default_rng((self.seed, salt))
        length = int(RATE * min(0.5, self.rt60_s * 1.2))
        tail = rng.standard_normal(length) * 10 ** (-3 * np.arange(length) / (self.rt60_s * RATE))
        tail[: int(0.002 * RATE)] = 0
        tail = np.convolve(tail, [0.5, 0.35, 0.15])[:length]
        tail *= 10 ** (-direct_to_reverberant_db / 20) / np.sqrt(np.square(tail).sum())
        tail[0] = 1.0
        for _ in range(6):  # early reflections colour the sound
            tail[rng.integers(8, 160)] += rng.uniform(-0.4, 0.4)
        return tail

    def loudspeaker(self, far: Floats) -> Floats:
        """A small loudspeaker: little bass, and harmonics that grow with ``drive``."""
        spectrum = np.fft.rfft(far)
        hertz = np.fft.rfftfreq(len(far), 1 / RATE)
        bass = (hertz / 250) ** 2 / (1 + (hertz / 250) ** 2)
        sound = np.fft.irfft(spectrum * bass, len(far))
        scale = 12000 / self.drive
        bent = np.tanh(sound / scale) + 0.05 * self.drive / 3 * (np.tanh(sound / scale) ** 2)
        return bent * scale

    def echo(self, far: Floats) -> Floats:
        """What of the loudspeaker the microphone hears."""
        rng = np.random.default_rng((self.seed, 3))
        heard = convolve(self.loudspeaker(far), self.response(float(rng.uniform(0, 10)), 1))
        delay = round(self.delay_s * RATE)
        return np.concatenate((np.zeros(delay), heard[: len(far) - delay])) * 10 ** (self.leak_db / 20)

    def person(self, dry: Floats) -> Floats:
        """What the microphone hears of somebody one to three metres away (level as given)."""
        rng = np.random.default_rng((self.seed, 4))
        wet = convolve(dry, self.response(float(rng.uniform(-3, 5)), 2))
        return wet * active_rms(dry) / active_rms(wet)

    def noise(self, samples: int, echo_rms: float, salt: int = 5) -> Floats:
        """Steady pink-like noise below the echo."""
        rng = np.random.default_rng((self.seed, salt))
        white = rng.standard_normal(samples)
        spectrum = np.fft.rfft(white) / np.sqrt(np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 50))
        pink = np.fft.irfft(spectrum, samples)
        return pink / pink.std() * echo_rms * 10 ** (self.noise_db / 20)


def convolve(sound: Floats, response: Floats) -> Floats:
    """Full convolution cut to the sound's length."""
    size = len(sound) + len(response)
    return np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(response, size), size)[: len(sound)]
