"""What a room hears while nobody has called it: its wake words, and where somebody spoke in vain.

Positions are samples of the microphone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from roomtone.core.endpoint import Boundary, Ended, Misfire, Started
from roomtone.core.sound import RATE, Audio, join
from roomtone.engines.wake import Detection, Wake

LEAD_HOPS = 50
HANG = RATE // 2
"""A wake word is listened for from half a second before somebody speaks until they have been silent for as long: a
model needs up to 0.35 s after the word, later it can only be wrong, and a quiet room costs nothing."""

RESCUED_S = 4.0
"""How long after somebody was ignored the button still means what they said: they wait for an answer, dry their hands
and walk to it. Later it is more likely that they begin anew."""


class Watchword:
    """Lets a wake engine hear what may be a word, and no more than that."""

    def __init__(self, wake: Wake) -> None:
        self._wake = wake
        self._last_voice = float("-inf")
        self._almost = (0.0, 0)

    def hear(self, speech: float, audio: Audio, recent: Iterable[Audio], sample: int) -> Detection | None:
        """Take a frame of 20 ms that ends at ``sample``, whether it is ``speech`` (0 to 1), and the hops up to it."""
        resting = sample - self._last_voice > HANG
        if speech >= 0.5:
            self._last_voice = sample
        elif resting:
            return None
        before = list(recent)[-LEAD_HOPS - 2 : -2] if resting else []
        detection = self._wake.feed(join([*before, audio]))
        if detection is None or detection.sure:
            return detection
        score, end = self._almost
        if detection.score >= score or sample - end > RATE:
            self._almost = detection.score, sample - detection.since
        return None

    def missed(self, start: int) -> int:
        """Return where what was almost a word ended after ``start``, or ``start`` where nothing was."""
        return max(start, self._almost[1])


@dataclass(slots=True)
class InVain:
    """Where somebody last spoke to a room that did not listen; ``end`` is None while they may go on."""

    start: int | None = None
    end: int | None = None

    def remember(self, boundary: Boundary, offset: int) -> None:
        """Take what an endpointer found; ``offset`` turns its samples into the microphone's."""
        match boundary:
            case Started(speech_from=start):
                self.start, self.end = start + offset, None
            case Ended(last_speech=last):
                self.end = last + offset
            case Misfire():
                self.start = None

    def take(self, now: int, silence: int, kept_from: int) -> int | None:
        """Return from where to hear what was just said, once; None where that is too long ago or goes on still.

        ``silence`` is how long whoever may go on has been quiet; before ``kept_from`` there is nothing to be heard.
        """
        start, self.start = self.start, None
        end = self.end if self.end is not None else now - silence
        goes_on = self.end is None and not silence
        if start is None or start < kept_from or goes_on or now - end > RESCUED_S * RATE:
            return None
        return start
