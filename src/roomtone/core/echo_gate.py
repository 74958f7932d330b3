"""The echo gate: does someone other than the loudspeaker make a sound in this frame?

What is played is known. For each of 25 bands the gate predicts how loud its echo can be in the microphone:
through the room (``direct``), by the loudspeaker's distortion, which fills bands the sound itself hardly uses
(``spill``: a share of the loudest band), and from the room's own noise (``floor``). What the microphone hears
beyond the sum of the three is somebody. Only powers are compared, so a wrong delay of some 10 ms, clock drift and
an unsteady loudspeaker, which defeat a linear canceller, matter little.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from roomtone.core.sound import HOP, RATE, Samples

Floats = npt.NDArray[np.float64]
Spectrum = npt.NDArray[np.complex128]

# fmt: off
EDGES_HZ = (
    150, 220, 280, 350, 410, 470, 530, 600, 690, 780, 880, 1000, 1130, 1280, 1450, 1650, 1850, 2100, 2400, 2750,
    3150, 3600, 4200, 5000, 6000, 7000,
)
# fmt: on
"""Borders of the bands: two or three of a frame's 31 Hz bins each at the low end, where two voices are told apart
by their harmonics, and about half a critical band above."""

FFT = 512
BINS = np.round(np.array(EDGES_HZ) / RATE * FFT).astype(int)
BANDS = len(BINS) - 1
WINDOW = np.hanning(2 * HOP + 1)[:-1]
"""Two of them, 10 ms apart, add up to 1."""

HISTORY = 400
"""Frames of 10 ms kept for finding the delay."""

LAGS = 64
"""The longest delay looked for, in frames."""

LOUD_DB = 60.0
"""Band power of the far end from which there is something to learn from."""


def decibels(power: Floats) -> Floats:
    """Return powers in dB; zero comes out as -30 dB."""
    result: Floats = 10 * np.log10(power + 1e-3)
    return result


def spectra(samples: Floats) -> Spectrum:
    """Return the windowed spectrum of each row of 20 ms of int16-ranged samples (320 of them)."""
    return np.fft.rfft(samples * WINDOW, FFT)


def band_power(spectrum: Spectrum) -> Floats:
    """Return the power of spectra in each band: shape (..., BANDS).

    Speech at -20 dBFS comes out between 60 and 90 dB, digital silence as 0 (power).
    """
    bins = spectrum[..., : BINS[-1]]
    power: Floats = np.add.reduceat(bins.real**2 + bins.imag**2, BINS[:-1], axis=-1) / 1e3
    return power


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How the gate decides. All of it was chosen in simulated rooms.

    ``evidence``: how much makes a person; 2 is about 20 ms of clear speech, 50 ms of faint; more is more
    cautious. ``margin_db`` is taken off each band's excess first. ``tail_s``: how long after the last sound the
    room may still ring. ``decay``: what is left of an echo's power 10 ms later (0.72 is an RT60 of 0.42 s).
    ``delay_s`` and ``gain_db`` (one number a band, microphone over far end) come from a calibration; without one
    the gate learns them from the first sounds it plays.
    """

    evidence: float = 2.0
    margin_db: float = 3.0
    tail_s: float = 0.3
    decay: float = 0.72
    delay_s: float = 0.0
    gain_db: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """The last 20 ms of the microphone, their power in each band, and what of it echo and noise should be."""

    bins: Spectrum
    power: Floats
    echo: Floats
    noise: Floats


@dataclass(frozen=True, slots=True)
class Verdict:
    """One frame's outcome. ``person`` (0 to 1) is the share of evidence: from 0.5 on the gate says "somebody".

    ``predicted`` is what the gate expected to hear, while something is played.
    """

    person: float
    playing: bool
    predicted: Prediction | None = field(default=None, compare=False, repr=False)


QUIET = Verdict(0.0, playing=False)


class NoiseFloor:
    """Follows the power of the room's own noise in each band, in dB.

    The tenth percentile is followed, so that speech, which leaves every band empty many times a second, hardly
    lifts it.
    """

    # From the 10th percentile of steady noise to its 86th: measured on white noise, 9.3 dB where a band has three
    # bins and 2.5 dB where it has 54.
    _SPREAD = 17.0 / np.sqrt(np.diff(BINS))

    _FIRST = 20

    def __init__(self) -> None:
        self._low = np.full(BANDS, 20.0)
        self._seen = 0

    @property
    def known(self) -> bool:
        """Whether enough of the room alone was heard to tell its noise from anything else."""
        return self._seen >= self._FIRST

    def follow(self, mic: Floats, frames: float = 1.0, where: npt.NDArray[np.bool_] | bool = True) -> None:
        """Take the band powers (dB) of one frame that stands for ``frames``; learn only ``where`` it says noise."""
        if not self.known:
            if np.mean(where) > 0.5:
                # A mean of the first frames, less what lies between steady noise's mean and its low end.
                self._low += (mic - 0.6 * self._SPREAD - self._low) / (self._seen + 1)
                self._seen += 1
            return
        rate = 0.5 * frames
        step = np.where(mic > self._low, 0.1 * rate, -0.9 * rate)
        self._low += step if where is True else np.where(where, step, 0)

    @property
    def mean(self) -> Floats:
        """The power that noise has on average, in dB."""
        mean: Floats = self._low + 0.6 * self._SPREAD
        return mean

    @property
    def level(self) -> Floats:
        """What noise rarely exceeds, in dB."""
        level: Floats = self._low + self._SPREAD
        return level


class EchoGate:
    """Fed with microphone and loudspeaker in step, 10 ms at a time."""

    LEARNING = 150
    """Loud frames until the echo path counts as known."""

    SURE = 1000
    """Loud frames until the gate needs no extra margin for what it has not heard yet."""

    WATCH_EVERY = 5
    """While nothing is played, every n-th frame is looked at for the noise floor."""

    def __init__(self, settings: GateSettings = GateSettings()) -> None:
        self._settings = settings
        gain = settings.gain_db
        self._direct = np.full(BANDS, 6.0) if gain is None else np.asarray(gain, np.float64) + 3.0
        self._spill = self._direct - 25.0
        self._loud_frames = 0 if gain is None else self.SURE
        self._learnt = np.full((2, BANDS), 0 if gain is None else 1000)
        self._delay = round(settings.delay_s * 100)
        self._floor = NoiseFloor()
        self._last = np.zeros((2, HOP))
        self._silent = 1_000_000
        self._playing = False
        self._frames = 0
        self._candidate = -1
        self._begin()

    @property
    def delay_s(self) -> float:
        """How long after the loudspeaker the microphone hears it, as far as is known."""
        return self._delay / 100

    @property
    def known(self) -> bool:
        """Whether the echo path was calibrated or has been learnt."""
        return self._loud_frames >= self.LEARNING

    def feed(self, near: Samples, far: Samples) -> Verdict:
        """Judge 10 ms (160 samples) of microphone and of what was given to the loudspeaker, volume included."""
        self._frames += 1
        self._silent = 0 if np.count_nonzero(far) else self._silent + 1  # five times as fast as any()
        if self._silent > self._rings_for:
            self._idle(near)
            return QUIET
        if not self._playing:
            self._begin()
            self._playing = True
        return self._judge(near, far)

    def rest(self, near: Samples) -> bool:
        """Take a block (a multiple of 160 samples) with nothing played; False, nothing taken, while echo may ring."""
        if self._silent + 1 <= self._rings_for:
            return False
        self._playing = False
        sound, hops = np.concatenate((self._last[0], near)), len(near) // HOP
        watched = range(-(self._frames + 1) % self.WATCH_EVERY, hops, self.WATCH_EVERY)
        self._watch(*(sound[hop * HOP : (hop + 2) * HOP] for hop in watched))
        self._frames += hops
        self._silent += hops
        self._last[0] = near[-HOP:]
        return True

    @property
    def _rings_for(self) -> float:
        """Frames after the last sound in which its echo may be heard."""
        return self._delay + self._settings.tail_s * 100

    def relearn(self) -> None:
        """Learn the echo path again: what was taken for a person was echo."""
        self._hot = self._loud_frames = 0
        self._learnt[:] = 0

    def _begin(self) -> None:
        """Forget the sound of before: a silence lies between."""
        self._history = np.zeros((2, 2 * HISTORY, BANDS))
        self._at = 0
        self._echo = np.zeros(BANDS)
        self._evidence = 0.0
        self._hot = 0
        self._last[1] = 0

    def _idle(self, near: Samples) -> None:
        self._playing = False
        if self._frames % self.WATCH_EVERY == 0:
            self._watch(np.concatenate((self._last[0], near)))
        self._last[0] = near

    def _watch(self, *frames: Floats) -> None:
        for power in decibels(band_power(spectra(np.array(frames)))) if frames else ():
            self._floor.follow(power, self.WATCH_EVERY)

    def _judge(self, near: Samples, far: Samples) -> Verdict:
        both = np.stack((near, far)).astype(np.float64)
        bins = spectra(np.concatenate((self._last, both), axis=1))
        mic_power, far_power = band_power(bins)
        self._last = both
        self._remember(mic_power, far_power)
        recent = self._recent(1, max(0, self._delay - 1), 3)
        self._echo = np.maximum(recent.max(0), self._settings.decay * self._echo)
        mic, echo = decibels(mic_power), decibels(self._echo)
        loudest = float(np.max(echo))
        direct, spill = self._direct + echo, self._spill + loudest
        floor = self._floor.level
        predicted = 10 ** (direct / 10) + 10 ** (spill / 10)
        expected = decibels(predicted + 10 ** (floor / 10))
        unsure_db = 3.0 * max(0.0, 1 - self._loud_frames / self.SURE)
        score = float(np.clip(mic - expected - self._settings.margin_db - unsure_db, 0, 12).mean())
        self._floor.follow(mic, where=np.maximum(direct, spill) < floor - 3)
        self._learn(mic, echo, np.maximum(direct, spill), score)
        prediction = Prediction(bins[0], mic_power + 1e-3, predicted, 10 ** (self._floor.mean / 10))
        return Verdict(self._person(score), playing=True, predicted=prediction)

    def _person(self, score: float) -> float:
        """Add up evidence that leaks away: a strong frame counts up to five times as much as a faint one."""
        # Before the echo path is known a person must stand out of the guess clearly to be believed.
        believed = self._floor.known and (self.known or score > 3.0)
        worth = min(score, 1.5) if believed else 0.0
        most = 2 * self._settings.evidence  # what is over is forgotten, so that the end of a sound shows soon
        self._evidence = min(most, max(0.0, 0.85 * self._evidence + worth - 0.1))
        return self._evidence / most

    def _remember(self, mic: Floats, far: Floats) -> None:
        """Write each row twice, so that the newest HISTORY rows always lie together."""
        for offset in (self._at, self._at + HISTORY):
            self._history[0, offset] = mic
            self._history[1, offset] = far
        self._at = (self._at + 1) % HISTORY

    def _recent(self, stream: int, back: int, rows: int) -> Floats:
        """Return ``rows`` rows of a stream that end ``back`` frames ago."""
        end = self._at + HISTORY - back
        return self._history[stream, end - rows : end]

    def _learn(self, mic: Floats, echo: Floats, expected: Floats, score: float) -> None:
        self._hot = self._hot + 1 if score > 2.5 else max(0, self._hot - 2)
        loudest = float(np.max(echo))
        if loudest < LOUD_DB:
            return
        self._loud_frames += 1
        if self._frames % 100 == 0:
            self._find_delay()
        if self.known and 4 <= self._hot <= 150:  # a person, probably: they must not be learnt as echo
            return
        strong = echo > loudest - 20
        floor = self._floor.level
        heard = np.stack((strong & (self._direct + echo > floor), ~strong & (self._spill + loudest > floor)))
        rate = np.maximum(0.2, 6.0 / (1 + self._learnt / 20))  # dB a frame: in leaps at first, then fine
        step = np.where(mic > expected, 0.9, -0.1) * rate * heard  # towards the 90th percentile
        self._direct += step[0]
        self._spill += step[1]
        self._learnt += heard

    def _find_delay(self) -> None:
        """Correlate the two envelopes; a delay is taken over once two looks a second apart agree on it.

        While the echo path is not known yet, one look is enough: any delay found is better than one assumed.
        """
        mic = np.maximum(decibels(self._recent(0, 0, HISTORY - LAGS)), self._floor.level)
        far = np.maximum(decibels(self._recent(1, 0, HISTORY)), 20.0)
        mic = (mic - mic.mean(0)) / (mic.std(0) + 1)
        far = (far - far.mean(0)) / (far.std(0) + 1)
        size = 2 * HISTORY
        product = np.fft.irfft((np.fft.rfft(far, size, 0) * np.fft.rfft(mic, size, 0).conj()).sum(1), size)
        fit = product[: LAGS + 1][::-1] / mic.size  # index: frames of delay
        best = int(np.argmax(fit))
        sure = best == self._candidate or not self.known
        if fit[best] > 0.5 and sure and abs(best - self._delay) > 1:
            self._delay = best
            self._learnt[:] = 0
        self._candidate = best


class Outcome(Enum):
    """What a sound that ducked the reply turned out to be."""

    CONFIRMED = "confirmed"
    """It goes on: hold the reply and listen."""

    UNCONFIRMED = "unconfirmed"
    """Echo, a tap, something put down: take the reply up again."""


class Doubt:
    """Settles, frame by frame after the reply was ducked, whether the sound goes on.

    The duck takes 18 dB off the echo and nothing off a person, so a gate that stays up means somebody. The first
    ``ignore`` frames do not count: the duck's own ramp, what still rings of the louder sound, and whatever is
    over as soon as a tap. ``need`` frames with a person in them then confirm at once; ``within`` frames without
    as many settle that it was nobody.
    """

    def __init__(self, ignore: int = 15, need: int = 10, within: int = 40) -> None:
        self._ignore = ignore
        self._need = need
        self._left = within
        self._up = 0

    def feed(self, person: float) -> Outcome | None:
        """Take a frame's ``person``; return the outcome once it is settled, None before."""
        if self._ignore > 0:
            self._ignore -= 1
            return None
        self._left -= 1
        self._up += person >= 0.5
        if self._up >= self._need:
            return Outcome.CONFIRMED
        return Outcome.UNCONFIRMED if self._left <= 0 else None
