"""Microphone, echo, voice detector and endpoint become facts: someone began to speak, paused, has finished.

While nothing is played the endpointer decides, on the voice detector's word. While Roomtone itself can be heard the
echo engine decides, and at once: an utterance is opened on its first word, and the endpointer follows behind. What is
said before anybody has called is only remembered for a moment.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from roomtone.core.dialog import Source
from roomtone.core.echo_gate import Doubt, Outcome
from roomtone.core.endpoint import Completeness, Ended, Endpointer, Misfire, Paused, Started
from roomtone.core.signals import (
    Call,
    Dismiss,
    Misfired,
    Signal,
    SoundWentOn,
    SpeechEnded,
    SpeechPaused,
    SpeechStarted,
    Wake,
)
from roomtone.core.sound import FRAME, HOP, RATE, Audio, join, level, to_int16
from roomtone.engines.audio import Capture, Microphone
from roomtone.engines.echo import Echo, EchoFrame
from roomtone.engines.vad import Vad
from roomtone.engines.wake import Detection
from roomtone.engines.wake import Wake as WakeEngine
from roomtone.flow import beside
from roomtone.overhearing import InVain, Watchword
from roomtone.utterance import Utterance

log = logging.getLogger(__name__)

IDLE_BLOCK_MS = 120
ALERT_BLOCK_MS = 10
"""Sizes of microphone blocks: large ones cost a Pi least, small ones are heard soonest. In an idle room blocks of
80 ms cost 0.011 CPU seconds a second, of 120 ms 0.0078 and of 160 ms 0.0068; the first word is noticed later by as
much, and nothing of it is lost."""

NOTICING_S = 0.06
"""What it takes to notice that someone speaks, by either way."""

RECENT_HOPS = 1000
"""Sound kept, in memory alone, for what was said before anybody listened: ten seconds, in hops of 10 ms."""

PRE_ROLL_HOPS = 30
"""How far an utterance reaches back when it was not the endpointer that opened it: as far as any other."""

GATE_NOTICING_HOPS = 9
"""Of these, how many can hold the person: before that there is only Roomtone's own voice, which is taken down by
``GATE_HUSH`` so that the recogniser hears the quiet before the first word that it hears before every utterance."""

GATE_HUSH = 10 ** (-40 / 20)

WORD_HOPS = 80
"""As long as a wake word is, in hops of 10 ms: so much is looked at for how loud it was."""

GATE_PAUSE_HOPS = 16
GATE_END_HOPS = 34
"""Silence after which a sound made while Roomtone speaks has paused, and is over."""

LOST_S = 2.0
"""Without a block for this long, a microphone is lost, whatever its engine still hopes for."""

RELEASE_HOPS = 15
"""Who holds a button to talk lets it go on the last word: so much more is heard."""

RELEARN_WITHIN_S = 10.0
"""Two sounds that came to nothing within this time were more likely echo of a room that has changed."""


class Ears:
    """Listens to one microphone. Synchronous but for ``run``; everything is counted in its samples.

    ``listens`` switches utterances on; ``alert`` says that someone may speak at any moment, so blocks are small.
    While it is ``held`` open, silence ends no utterance: ``release`` does. ``muted``: nothing is heard, nothing kept.
    ``deaf``: the same for a moment, in which the room listens to a sound of its own (see ``taping``).
    ``stops``: there is something that a stop word can silence.
    """

    def __init__(
        self,
        microphone: Microphone,
        echo: Echo,
        vad: Vad,
        endpointer: Endpointer,
        post: Callable[[Signal], None],
        wake: WakeEngine | None = None,
    ) -> None:
        self.alert = self.muted = self.deaf = self.stops = self.held = False
        self.health = "ok"
        self._microphone = microphone
        self._echo = echo
        self.vad = vad
        self._endpointer = endpointer
        self._post = post
        self._watchword = Watchword(wake) if wake is not None else None
        self._listens = self._rescued = False
        self._in_vain = InVain()
        self._spent = self._word_end = 0
        self._utterance: Utterance | None = None
        self._over_at: int | None = None
        self._recent: deque[Audio] = deque(maxlen=RECENT_HOPS)
        self._half: EchoFrame | None = None
        self._sample = self._fed = 0
        self._time_of_zero = 0.0
        self._last_playing = 0
        self._gate: _Gate | None = None
        self._came_to_nothing = float("-inf")
        self._block_ms = 0
        self._tapes: list[Callable[[Capture], None]] = []

    @property
    def listens(self) -> bool:
        """Whether what is said becomes an utterance."""
        return self._listens

    @listens.setter
    def listens(self, listens: bool) -> None:
        if listens is not self._listens:
            self._listens = listens
            self._break_off()

    async def run(self) -> None:
        """Listen until the microphone ends."""
        async with beside(self._watch_microphone(), "watching the microphone"):
            async for capture in self._microphone:
                self._hear_or_tell(capture)
        self.finish()

    def _hear_or_tell(self, capture: Capture) -> None:
        """Hear a block; one that an engine chokes on is passed over, and what was being said ends there."""
        end = self._sample + len(capture.near)
        try:
            self.hear(capture)
            self.health = "ok"
        except Exception as error:
            if self.health == "ok":
                log.exception("a block of sound could not be heard")
            self.health = str(error) or type(error).__name__
            self._sample, self._half = end, None
            self.finish()

    async def _watch_microphone(self) -> None:
        """End what is being said when the microphone falls silent for good: someone waits for an answer."""
        while True:
            heard = self._sample
            await asyncio.sleep(LOST_S)
            if self._sample == heard:
                self.finish()

    def finish(self) -> None:
        """End what is being said, as if the person had finished."""
        if self._utterance is not None:
            self._break_off()
            self._post(SpeechEnded())

    def release(self, *, ends: bool) -> None:
        """Let silence end utterances again; one that it would have ended is over, with ``ends`` any is."""
        self.held = False
        if self._utterance is not None and (ends or not self._endpointer.speaking):
            self._over_at = self._sample + RELEASE_HOPS * HOP

    def abandon(self, utterance: Utterance) -> None:
        """Nobody waits for this utterance any more: whoever goes on speaking begins another."""
        if utterance is self._utterance:
            self._break_off()

    def rescue(self) -> None:
        """Take what was just said in vain for an utterance that is over, if anything was."""
        kept_from = max(self._sample - len(self._recent) * HOP, self._spent, self._last_playing)
        silence = round(self._endpointer.silence_s * RATE)
        start = self._in_vain.take(self._sample, silence, kept_from)
        if start is None:
            return
        now = self._time(self._sample)
        utterance = Utterance(now, overheard=True)
        self._word_end = self._watchword.missed(start) if self._watchword is not None else 0
        for audio in self._after_word(max(start, self._word_end - PRE_ROLL_HOPS * HOP)):
            utterance.add(audio)
        utterance.end(now, now)
        self._spent = self._sample
        self._rescued = True
        self._post(SpeechStarted(utterance))

    @contextmanager
    def taping(self, take: Callable[[Capture], None]) -> Iterator[None]:
        """Let somebody have each block that the microphone gives; none while the room is muted."""
        self._tapes.append(take)
        try:
            yield
        finally:
            self._tapes.remove(take)

    def expect(self, completeness: Completeness) -> None:
        """Say whether the text so far asks for more words."""
        self._endpointer.expect(completeness)

    def hear(self, capture: Capture) -> None:
        """Take one block from the microphone."""
        for take in () if self.muted else tuple(self._tapes):
            take(capture)
        near, far = capture.near, capture.far
        end = self._sample + len(near)
        self._time_of_zero = capture.at - end / RATE
        if self._is_resting(capture) and self._echo.rest(near):
            for start in range(0, len(near), FRAME):
                self._quiet_frame(near.cut(start, start + FRAME))
        else:
            for start in range(0, len(near), HOP):
                self._hop(self._echo.process(near.cut(start, start + HOP), far.cut(start, start + HOP)))
        if self._over_at is not None and self._sample >= self._over_at:
            self.finish()
        self._set_pace()

    def _is_resting(self, capture: Capture) -> bool:
        """Whether the echo engine may pass a block over: an idle room costs a third less that way."""
        between = self._utterance is None and self._half is None and len(capture.near) % FRAME == 0
        return between and not np.count_nonzero(capture.far.samples)

    def _set_pace(self) -> None:
        """Small blocks while anything may happen soon, large ones in an idle room."""
        busy = self.alert or self._utterance is not None or self._sample - self._last_playing < RATE // 2
        wanted = ALERT_BLOCK_MS if busy else IDLE_BLOCK_MS
        if wanted != self._block_ms:
            self._block_ms = wanted
            self._microphone.pace(wanted)

    def _time(self, sample: int) -> float:
        return self._time_of_zero + sample / RATE

    def _quiet_frame(self, audio: Audio) -> None:
        """Take 20 ms in which the loudspeaker cannot be heard."""
        self._keep(audio.cut(0, HOP))
        self._keep(audio.cut(HOP))
        if self.muted or self.deaf:
            self._forget()
        else:
            self._judge(self.vad.probability(audio), audio)

    def _keep(self, near: Audio) -> None:
        self._sample += HOP
        self._recent.append(near)
        if self._utterance is not None:
            self._utterance.add(near)

    def _hop(self, frame: EchoFrame) -> None:
        self._keep(frame.near)
        if frame.playing:
            self._last_playing = self._sample
        if self.muted or self.deaf:
            self._forget()
            return
        if self.listens:
            self._watch_gate(frame)
        if self._half is None:
            self._half = frame
            return
        first, self._half = self._half, None
        self._frame(first, frame)

    def _forget(self) -> None:
        """Keep nothing of what is said in a muted room."""
        self._half = None
        self._recent.clear()
        if self._utterance is not None or self._endpointer.speaking:
            self._break_off()

    # ------------------------------------------------------------------------- while Roomtone is heard

    def _watch_gate(self, frame: EchoFrame) -> None:
        if self._utterance is None and frame.playing and frame.person >= 0.5:
            self._gate = _Gate(self._sample)
            self._open(self._sample - PRE_ROLL_HOPS * HOP, self._sample, hushed=True)
        elif self._gate is not None and self._utterance is not None:
            self._follow_gate(self._gate, frame)

    def _follow_gate(self, gate: _Gate, frame: EchoFrame) -> None:
        match gate.feed(frame.person, self._sample):
            case Outcome.CONFIRMED:
                self._post(SoundWentOn())
            case Outcome.UNCONFIRMED:
                self._note_nothing()
        if self._endpointer.speaking:
            return
        if gate.quiet_hops(self._sample) == GATE_PAUSE_HOPS:
            self._post(SpeechPaused())
        if gate.quiet_hops(self._sample) >= GATE_END_HOPS and not self.held:
            self._close(gate.last_up)
            self._post(SpeechEnded())

    def _note_nothing(self) -> None:
        now = self._time(self._sample)
        if now - self._came_to_nothing < RELEARN_WITHIN_S:
            self._echo.relearn()
        self._came_to_nothing = now

    # --------------------------------------------------------------------------- frames of 20 ms

    def _frame(self, first: EchoFrame, second: EchoFrame) -> None:
        audio = Audio(np.concatenate((first.near.samples, second.near.samples)))
        if first.playing or second.playing:
            speech = 1.0 if max(first.person, second.person) >= 0.5 else 0.0
        else:
            speech = self.vad.probability(audio)
        self._judge(speech, audio)

    def _judge(self, speech: float, audio: Audio) -> None:
        if self._watchword is not None:
            detection = self._watchword.hear(speech, audio, self._recent, self._sample)
            if detection is not None:
                self._obey(detection)
        if self._utterance is not None and speech >= 0.5:
            self._utterance.voiced_s += FRAME / RATE
        self._fed += FRAME
        for boundary in self._endpointer.feed(speech, audio):
            take = self._cross if self._listens else self._in_vain.remember
            take(boundary, self._sample - self._fed)

    def _obey(self, detection: Detection) -> None:
        """Listen to whoever has called, from the end of the word on; or be silent at once."""
        if detection.stops and not self.stops:
            return
        log.info("heard %s (%.2f)", detection.word, detection.score)
        self._break_off()
        self._spent = self._word_end = self._sample - detection.since
        if detection.stops:
            self._post(Dismiss(Source.VOICE))
            return
        self._listens = True
        call = Call(self._time(self._word_end), detection.word, detection.score, self._loudness(detection))
        self._post(Wake(Source.VOICE, detection.persona, call=call))

    def _loudness(self, word: Detection) -> float:
        """Return how loud a wake word was, in dBFS, with what was said or silent just before it."""
        after = word.since // HOP
        sound = list(self._recent)[-WORD_HOPS - after : len(self._recent) - after]
        return round(level(join(sound).samples), 1)

    def _cross(self, boundary: Started | Paused | Ended | Misfire, offset: int) -> None:
        """Tell what the endpointer found; ``offset`` turns its samples into the microphone's."""
        match boundary:
            case Started(at=at, speech_from=start) if self._utterance is None:
                self._open(max(start + offset, self._last_playing), at + offset)
            case Paused() if self._utterance is not None:
                self._post(SpeechPaused())
            case Ended(last_speech=last) if self._utterance is not None and not self.held:
                self._close(last + offset)
                self._post(SpeechEnded())
            case Misfire() if self._utterance is not None:
                self._close(self._sample)
                self._post(Misfired())

    def _open(self, start: int, noticed: int, *, hushed: bool = False) -> None:
        """Open an utterance that reaches back to sample ``start``; speech was noticed at sample ``noticed``."""
        before = self._after_word(start)
        if hushed:
            before[:-GATE_NOTICING_HOPS] = [_hush(audio) for audio in before[:-GATE_NOTICING_HOPS]]
        if self._rescued:  # who speaks on says it better
            self._rescued = False
            self._post(Misfired())
        self._utterance = Utterance(self._time(noticed) - NOTICING_S)
        for audio in before:
            self._utterance.add(audio)
        self._post(SpeechStarted(self._utterance, Call(self._utterance.speech_at)))

    def _after_word(self, start: int) -> list[Audio]:
        """Return what is kept of the sound since a sample, at least the last 10 ms of it.

        A wake word at its beginning is hushed, not cut off: the recogniser needs the quiet before the first word.
        """
        hops = min(len(self._recent), max(1, round((self._sample - start) / HOP)))
        sound = list(self._recent)[-hops:]
        word = max(0, hops - (self._sample - self._word_end) // HOP)
        return [*map(_hush, sound[:word]), *sound[word:]]

    def _close(self, last_speech: int) -> None:
        if self._utterance is not None:
            self._spent = self._sample
            self._utterance.end(self._time(last_speech), self._time(self._sample))
        self._utterance = self._over_at = None
        self._gate = None

    def _break_off(self) -> None:
        """Close what is being said here, before the endpointer would have."""
        self._close(self._sample)
        self._endpointer.reset()
        self._in_vain.start = None


def _hush(audio: Audio) -> Audio:
    return Audio(to_int16(audio.samples * GATE_HUSH), audio.rate)


class _Gate:
    """What became of a sound that was made while Roomtone spoke."""

    def __init__(self, opened: int) -> None:
        self.last_up = opened
        self._doubt: Doubt | None = Doubt()

    def feed(self, person: float, sample: int) -> Outcome | None:
        """Take a hop; return once, when it is settled, whether the sound goes on."""
        if person >= 0.5:
            self.last_up = sample
        outcome = self._doubt.feed(person) if self._doubt is not None else None
        if outcome is not None:
            self._doubt = None
        return outcome

    def quiet_hops(self, sample: int) -> int:
        """Return how long nobody was there, in hops."""
        return (sample - self.last_up) // HOP
