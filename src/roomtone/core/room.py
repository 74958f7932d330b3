"""A simulated room: what a microphone hears of people, of the loudspeaker beside it, and of the room itself.

Deterministic: one seed, one room, and the sound of a step never depends on how the steps were grouped. It has a small
loudspeaker that distorts, an echo with a reverberant tail, and noise; nobody moves and the clocks do not drift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from roomtone.core.sound import FRAME, HOP, RATE, SILENT_DBFS, Samples, to_int16

Floats = npt.NDArray[np.float64]

SPEED_OF_SOUND = 343.0
VOLUME_M3 = 40.0
SPEAKER_TO_MICROPHONE_M = 0.12
TALKER_DBFS = -28.0
"""Active level at the microphone of somebody who talks at 1 m and is given no level."""

SMALL_SPEAKER_HZ = 180.0
NOISE_LOOP_S = 8.0
BUMP_S = 0.08
BUMP_OVER_NOISE_DB = 30.0


@dataclass(frozen=True, slots=True)
class Shape:
    """What a room is like.

    ``leak_db`` is the level at the microphone of speech from the loudspeaker less the level it is played at, and
    ``delay_s`` how much later it arrives than it was handed to the sound card. ``drive`` is how hard the small
    loudspeaker is driven: 0 linear, 0.5 mild, 3 heavy. ``noise_dbfs`` of -100 or less is digital silence.
    """

    rt60_s: float = 0.35
    leak_db: float = -12.0
    delay_s: float = 0.040
    noise_dbfs: float = -62.0
    drive: float = 0.5
    bumps_per_minute: float = 0.0
    seed: int = 1


def impulse_response(distance_m: float, rt60_s: float, seed: int) -> Floats:
    """Return what the room makes of a click ``distance_m`` away, the direct sound having amplitude 1.

    The tail is noise that falls 60 dB in ``rt60_s``. The direct sound is as strong as the tail at the critical
    distance, 0.057 sqrt(V / RT60) metres, and 6 dB weaker for each doubling (Kuttruff, Room Acoustics, 5.3).
    """
    travel = round(distance_m / SPEED_OF_SOUND * RATE)
    length = round(0.75 * rt60_s * RATE)  # to 45 dB below its start
    response = np.zeros(travel + 1 + length)
    response[travel] = 1.0
    if length:
        decay = np.exp(-np.log(1000) * np.arange(length) / (rt60_s * RATE))
        tail = np.random.default_rng(seed).standard_normal(length) * decay
        critical_m = 0.057 * np.sqrt(VOLUME_M3 / rt60_s)
        response[travel + 1 :] = tail * (distance_m / critical_m) / np.sqrt(np.sum(tail**2))
    return response


def small_loudspeaker() -> Floats:
    """Return the impulse response of a loudspeaker with no bass: 12 dB an octave below 180 Hz (Butterworth)."""
    frequencies = np.fft.rfftfreq(2 * FRAME, 1 / RATE)
    s = 1j * frequencies / SMALL_SPEAKER_HZ
    return np.fft.irfft(s**2 / (s**2 + np.sqrt(2) * s + 1))[:FRAME]


def distort(samples: Floats, drive: float) -> Floats:
    """Bend int16-ranged samples as an overdriven small loudspeaker does, with odd and even harmonics."""
    if drive == 0:
        return samples
    bias = 0.2
    slope = 1 - np.tanh(bias) ** 2
    bent: Floats = (np.tanh(samples * (drive / 32768) + bias) - np.tanh(bias)) * (32768 / (drive * slope))
    return bent


def coloured_noise(seconds: float, dbfs: float, seed: int) -> Floats:
    """Return pink noise from 40 Hz up, at that RMS level, that can be looped without a seam."""
    n = round(seconds * RATE)
    frequencies = np.fft.rfftfreq(n, 1 / RATE)
    generator = np.random.default_rng(seed)
    spectrum = generator.standard_normal(len(frequencies)) + 1j * generator.standard_normal(len(frequencies))
    spectrum *= np.where(frequencies >= 40, 1 / np.sqrt(np.maximum(frequencies, 40)), 0)
    noise = np.fft.irfft(spectrum, n)
    scaled: Floats = noise * (32768 * 10 ** (dbfs / 20) / np.sqrt(np.mean(noise**2)))
    return scaled


def active_dbfs(samples: Samples | Floats) -> float:
    """Level of speech without its pauses: RMS of the 20 ms frames within 20 dB of a loud one (95th percentile)."""
    whole = samples[: len(samples) // FRAME * FRAME].astype(np.float64)
    if not len(whole):
        return SILENT_DBFS
    power = np.mean(whole.reshape(-1, FRAME) ** 2, axis=1)
    active = power[power >= np.percentile(power, 95) / 100]
    mean = float(np.mean(active))
    return 10 * float(np.log10(mean / 32768**2)) if mean > 0 else SILENT_DBFS


def convolve(samples: npt.NDArray[np.floating] | Samples, response: Floats) -> Floats:
    """Convolve a whole sound with a response; the result is longer by the response less one."""
    n = len(samples) + len(response) - 1
    size = 1 << (n - 1).bit_length()
    product: Floats = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[:n]
    return product


class Convolver:
    """Convolution of a stream in 160-sample blocks, with no delay (partitioned overlap-save); silence is free."""

    def __init__(self, response: Floats) -> None:
        parts = max(1, -(-len(response) // HOP))
        padded = np.zeros(parts * HOP)
        padded[: len(response)] = response
        self._filter = np.fft.rfft(padded.reshape(parts, HOP), 2 * HOP, axis=1)
        self._spectra = np.zeros_like(self._filter)
        self._last = np.zeros(HOP)
        self._quiet = parts + 2

    @property
    def asleep(self) -> bool:
        """Whether the last sound has died away: silence in is silence out."""
        return self._quiet > len(self._filter) + 1

    def feed(self, block: npt.NDArray[np.floating] | Samples) -> Floats:
        """Take the next 160 samples in; return the next 160 out."""
        self._quiet = 0 if block.any() else self._quiet + 1
        if self.asleep:
            return np.zeros(HOP)
        self._spectra[1:] = self._spectra[:-1]
        self._spectra[0] = np.fft.rfft(np.concatenate([self._last, block]))
        self._last = np.asarray(block, np.float64)
        out: Floats = np.fft.irfft(np.einsum("pf,pf->f", self._filter, self._spectra))[HOP:]
        return out


class Leak:
    """The way of the loudspeaker's own sound to the microphone."""

    def __init__(self, shape: Shape) -> None:
        self._drive = shape.drive
        path = impulse_response(SPEAKER_TO_MICROPHONE_M, shape.rt60_s, shape.seed)
        path = np.concatenate([np.zeros(round(shape.delay_s * RATE)), path])
        speech_like = coloured_noise(1.0, -20.0, seed=0)  # the reference level: -20 dBFS is a voice at full volume
        out = convolve(distort(convolve(speech_like, small_loudspeaker()), self._drive), path)
        gain = 10 ** ((-20.0 + shape.leak_db) / 20) * 32768 / np.sqrt(np.sum(out**2) / len(speech_like))
        self._speaker = Convolver(small_loudspeaker())
        self._path = Convolver(path * gain)

    def feed(self, far: Samples) -> Floats | None:
        """Take the next 160 samples that are played; return what arrives in the same 10 ms (None: nothing)."""
        if self._path.asleep and not far.any():
            return None  # the path outlasts the loudspeaker
        return self._path.feed(distort(self._speaker.feed(far), self._drive))


class Noise:
    """The room's own sound: a pink floor, and now and then something is put down."""

    def __init__(self, shape: Shape) -> None:
        quiet = shape.noise_dbfs <= SILENT_DBFS
        self._floor = coloured_noise(NOISE_LOOP_S, shape.noise_dbfs, shape.seed) * (not quiet)
        self._rounded = to_int16(self._floor)
        self._chance = shape.bumps_per_minute / 60 * HOP / RATE
        self._generator = np.random.default_rng((shape.seed, 1))
        thump = coloured_noise(BUMP_S, shape.noise_dbfs + BUMP_OVER_NOISE_DB, shape.seed + 1)
        self._bump = thump * np.exp(-np.arange(len(thump)) / (len(thump) / 5)) * (not quiet)
        self._bump_at = len(self._bump)

    @property
    def steady(self) -> bool:
        """Whether this room never bumps."""
        return self._chance == 0

    def rounded(self, step: int) -> Samples:
        """Return 160 samples of the floor alone, ready made: a quiet house should cost next to nothing."""
        start = step * HOP % len(self._rounded)
        return self._rounded[start : start + HOP]

    def at(self, step: int) -> Floats:
        """Return 160 samples; steps are asked for in order."""
        start = step * HOP % len(self._floor)
        block = self._floor[start : start + HOP]
        if self._chance and self._generator.random() < self._chance:
            self._bump_at = 0
        if self._bump_at < len(self._bump):
            block = block + self._bump[self._bump_at : self._bump_at + HOP]
            self._bump_at += HOP
        return block


class Room:
    """One microphone in a room of some shape."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._leak = Leak(shape)
        self._noise = Noise(shape)

    def hear(self, step: int, far: Samples, people: Floats | None) -> Samples:
        """Return what the microphone hears in 10 ms: noise, the loudspeaker's leak, and people placed by ``place``.

        Steps are asked for in order.
        """
        leak = self._leak.feed(far)
        if leak is None and people is None and self._noise.steady:
            return self._noise.rounded(step)
        total = self._noise.at(step)
        total = total if leak is None else total + leak
        return to_int16(total if people is None else total + people)

    def place(self, speech: Samples, distance_m: float, dbfs: float | None = None) -> Samples:
        """Return how somebody who stands ``distance_m`` away arrives at the microphone (16 kHz, tail included).

        ``dbfs`` is their active level there; without it they talk normally, 6 dB weaker for each doubling.
        """
        path = impulse_response(distance_m, self.shape.rt60_s, self.shape.seed + 1000 + round(100 * distance_m))
        arriving = convolve(speech, path)
        wanted = TALKER_DBFS - 20 * np.log10(max(distance_m, 0.2)) if dbfs is None else dbfs
        now = active_dbfs(arriving[: len(speech)])
        return to_int16(arriving * 10 ** ((wanted - now) / 20))

    def echo_dbfs(self, played: Samples) -> float:
        """Active level at the microphone of a sound if it is played as given (after volume and duck)."""
        leak = Leak(self.shape)
        padded = np.concatenate([played, np.zeros(-len(played) % HOP, np.int16)])
        silence = np.zeros(HOP)
        heard = [leak.feed(block) for block in padded.reshape(-1, HOP)]
        return active_dbfs(np.concatenate([silence if block is None else block for block in heard]))
