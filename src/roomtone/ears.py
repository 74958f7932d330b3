"""Microphone, echo, voice detector and endpoint become facts: someone began to speak, paused, has finished.

While nothing is played the endpointer decides, on the voice detector's word. While Roomtone itself can be heard the
echo engine decides, and at once: an utterance is opened on its first word, and the endpointer follows behind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from roomtone.core.endpoint import Completeness, Ended, Endpointer, Misfire, Paused, Started
from roomtone.core.machine import (
    Misfired,
    Signal,
    SoundWentOn,
    SpeechEnded,
    SpeechPaused,
    SpeechStarted,
)
from roomtone.core.sound import FRAME, HOP, RATE, Audio, join
from roomtone.engines.audio import Capture, Microphone
from roomtone.engines.echo import Echo, EchoFrame
from roomtone.engines.vad import Vad
from roomtone.utterance import Utterance

IDLE_BLOCK_MS = 60
ALERT_BLOCK_MS = 10
"""Sizes of microphone blocks: large ones cost a Pi least, small ones are heard soonest."""

NOTICING_S = 0.06
"""What it takes to notice that someone speaks, by either way."""

RECENT_HOPS = 100
"""Sound kept for what an utterance begins with: a second, in hops of 10 ms."""

GATE_PRE_ROLL_HOPS = 16
"""How far an utterance reaches back when the echo engine opened it: its own delay and a first consonant. Not
further, since Roomtone's own voice lies there."""

GATE_PAUSE_HOPS = 16
GATE_END_HOPS = 34
"""Silence after which a sound made while Roomtone speaks has paused, and is over."""

CONFIRMING_HOPS = 20
CONFIRMED_HOPS = 14
"""Of this many hops after a sound began, this many must hold it still for the reply to be held."""


class Ears:
    """Listens to one microphone. Synchronous but for ``run``; everything is counted in its samples.

    ``listens`` switches utterances on; ``alert`` says that someone may speak at any moment, so blocks are small.
    """

    def __init__(
        self,
        microphone: Microphone,
        echo: Echo,
        vad: Vad,
        endpointer: Endpointer,
        post: Callable[[Signal], None],
    ) -> None:
        self.listens = False
        self.alert = False
        self.muted = False
        self.heard_s = 0.0
        self._microphone = microphone
        self._echo = echo
        self._vad = vad
        self._endpointer = endpointer
        self._post = post
        self._utterance: Utterance | None = None
        self._recent: deque[Audio] = deque(maxlen=RECENT_HOPS)
        self._half: EchoFrame | None = None
        self._sample = 0
        self._fed = 0
        self._time_of_zero = 0.0
        self._last_playing = 0
        self._gate: _Gate | None = None
        self._block_ms = 0

    async def run(self) -> None:
        """Listen until the microphone ends."""
        async for capture in self._microphone:
            self.hear(capture)
        if self._utterance is not None:
            self._close(self._sample)
            self._post(SpeechEnded())

    def expect(self, completeness: Completeness) -> None:
        """Say whether the text so far asks for more words."""
        self._endpointer.expect(completeness)

    def hear(self, capture: Capture) -> None:
        """Take one block from the microphone."""
        end = self._sample + len(capture.near)
        self._time_of_zero = capture.at - end / RATE
        for start in range(0, len(capture.near), HOP):
            near, far = capture.near.cut(start, start + HOP), capture.far.cut(start, start + HOP)
            self._hop(self._echo.process(near, far))
        self.heard_s = self._sample / RATE
        self._set_pace()

    def _set_pace(self) -> None:
        """Small blocks while anything may happen soon, large ones in an idle room."""
        busy = self.alert or self._utterance is not None or self._sample - self._last_playing < RATE // 2
        wanted = ALERT_BLOCK_MS if busy else IDLE_BLOCK_MS
        if wanted != self._block_ms:
            self._block_ms = wanted
            self._microphone.pace(wanted)

    def _time(self, sample: int) -> float:
        return self._time_of_zero + sample / RATE

    def _hop(self, frame: EchoFrame) -> None:
        self._sample += HOP
        self._recent.append(frame.near)
        if frame.playing:
            self._last_playing = self._sample
        if self._utterance is not None:
            self._utterance.add(frame.near)
        if not self.listens:
            self._forget()
            return
        self._watch_gate(frame)
        if self._half is None:
            self._half = frame
            return
        first, self._half = self._half, None
        self._frame(first, frame)

    def _forget(self) -> None:
        """Stop listening: what is being said now is nobody's."""
        self._half = None
        if self._utterance is not None or self._endpointer.speaking:
            self._close(self._sample)
            self._endpointer.reset()

    # ------------------------------------------------------------------------- while Roomtone is heard

    def _watch_gate(self, frame: EchoFrame) -> None:
        if self._utterance is None and frame.playing and frame.person >= 0.5:
            self._gate = _Gate(self._sample)
            self._open(self._sample - GATE_PRE_ROLL_HOPS * HOP, self._sample)
        elif self._gate is not None and self._utterance is not None:
            self._follow_gate(self._gate, frame)

    def _follow_gate(self, gate: _Gate, frame: EchoFrame) -> None:
        gate.feed(frame.person >= 0.5, self._sample)
        if gate.confirmed():
            self._post(SoundWentOn())
        if self._endpointer.speaking:
            return
        if gate.quiet_hops(self._sample) == GATE_PAUSE_HOPS:
            self._post(SpeechPaused())
        if gate.quiet_hops(self._sample) >= GATE_END_HOPS:
            self._close(gate.last_up)
            self._post(SpeechEnded())

    # --------------------------------------------------------------------------- frames of 20 ms

    def _frame(self, first: EchoFrame, second: EchoFrame) -> None:
        audio = join([first.near, second.near])
        if first.playing or second.playing:
            speech = 1.0 if max(first.person, second.person) >= 0.5 else 0.0
        else:
            speech = self._vad.probability(audio)
        if self._utterance is not None and speech >= 0.5:
            self._utterance.voiced_s += FRAME / RATE
        self._fed += FRAME
        for boundary in self._endpointer.feed(speech, audio):
            self._cross(boundary, self._sample - self._fed)

    def _cross(self, boundary: Started | Paused | Ended | Misfire, offset: int) -> None:
        """Tell what the endpointer found; ``offset`` turns its samples into the microphone's."""
        match boundary:
            case Started(at=at, speech_from=start) if self._utterance is None:
                self._open(max(start + offset, self._last_playing), at + offset)
            case Paused() if self._utterance is not None:
                self._post(SpeechPaused())
            case Ended(last_speech=last) if self._utterance is not None:
                self._close(last + offset)
                self._post(SpeechEnded())
            case Misfire() if self._utterance is not None:
                self._close(self._sample)
                self._post(Misfired())

    def _open(self, start: int, noticed: int) -> None:
        """Open an utterance that reaches back to sample ``start``; speech was noticed at sample ``noticed``."""
        hops = min(len(self._recent), max(1, round((self._sample - start) / HOP)))
        self._utterance = Utterance(self._time(noticed) - NOTICING_S)
        for audio in list(self._recent)[-hops:]:
            self._utterance.add(audio)
        self._post(SpeechStarted(self._utterance))

    def _close(self, last_speech: int) -> None:
        if self._utterance is not None:
            self._utterance.end(self._time(last_speech), self._time(self._sample))
        self._utterance = None
        self._gate = None


class _Gate:
    """What became of a sound that was made while Roomtone spoke."""

    def __init__(self, opened: int) -> None:
        self.last_up = opened
        self._hops = 0
        self._up = 0
        self._told = False

    def feed(self, up: bool, sample: int) -> None:
        self._hops += 1
        self._up += up
        if up:
            self.last_up = sample

    def confirmed(self) -> bool:
        """Whether the sound has just proved to go on; True once."""
        if self._told or self._hops > CONFIRMING_HOPS or self._up < CONFIRMED_HOPS:
            return False
        self._told = True
        return True

    def quiet_hops(self, sample: int) -> int:
        return (sample - self.last_up) // HOP
