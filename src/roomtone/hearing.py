"""Endpointing and transcription alone: sound in, utterances out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from roomtone.core.endpoint import Endpointer
from roomtone.core.errors import EngineError
from roomtone.core.signals import Misfired, Signal, SpeechEnded, SpeechPaused, SpeechStarted
from roomtone.ears import Ears
from roomtone.engines.audio import SoundDevice
from roomtone.engines.echo import Echo
from roomtone.engines.stt import Hints, Transcript
from roomtone.engines.vad import Vad
from roomtone.failover import SttLine
from roomtone.flow import Inbox, beside
from roomtone.mind.sentences import Skills
from roomtone.utterance import Utterance


@dataclass(frozen=True, slots=True)
class Heard:
    """One utterance: when its first and its last sample of speech were, when that was decided, and its text.

    Times are seconds from the beginning of the sound. ``error`` is set where the recogniser failed.
    """

    start_s: float
    end_s: float
    decided_s: float
    text: str
    confidence: float
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Recogniser:
    """What turns an utterance into text here, and knows when a text asks for more."""

    stt: SttLine
    skills: Skills
    hints: Hints


async def utterances(
    device: SoundDevice, echo: Echo, vad: Vad, endpointer: Endpointer, recogniser: Recogniser
) -> list[Heard]:
    """Listen to a device until its microphone ends; return what was said, in order."""
    inbox: Inbox[Signal | None] = Inbox()
    ears = Ears(device.microphone, echo, vad, endpointer, inbox.post)
    ears.listens = ears.alert = True
    began = asyncio.get_running_loop().time()
    heard: list[Heard] = []
    async with beside(_listen(ears, inbox), "ears"):
        while (signal := await inbox.next()) is not None:
            if isinstance(signal, SpeechStarted):
                found = await _follow(signal.utterance, inbox, ears, recogniser)
                if found is not None:
                    heard.append(_heard(signal.utterance, began, *found))
    return heard


async def _listen(ears: Ears, inbox: Inbox[Signal | None]) -> None:
    await ears.run()
    inbox.post(None)


async def _follow(
    utterance: Utterance, inbox: Inbox[Signal | None], ears: Ears, recogniser: Recogniser
) -> tuple[Transcript, str | None] | None:
    """Recognise an utterance while it is spoken; None where it was no speech."""
    async with asyncio.TaskGroup() as group:
        recognising = group.create_task(_recognise(utterance, ears, recogniser), name="recognising")
        while not isinstance(signal := await inbox.next(), SpeechEnded):
            if isinstance(signal, SpeechPaused):
                utterance.pause()
            if isinstance(signal, Misfired):
                recognising.cancel()
                return None
    return recognising.result()


async def _recognise(utterance: Utterance, ears: Ears, recogniser: Recogniser) -> tuple[Transcript, str | None]:
    transcript = Transcript("")
    try:
        async for transcript in recogniser.stt.transcribe(utterance, recogniser.hints):
            if not transcript.final and not transcript.growing:
                ears.expect(recogniser.skills.completeness(transcript.text))
    except EngineError as error:
        return Transcript(""), error.message
    return transcript, None


def _heard(utterance: Utterance, began: float, transcript: Transcript, error: str | None) -> Heard:
    assert utterance.last_speech_at is not None
    assert utterance.ended_at is not None
    return Heard(
        start_s=round(utterance.speech_at - began, 3),
        end_s=round(utterance.last_speech_at - began, 3),
        decided_s=round(utterance.ended_at - began, 3),
        text=transcript.text,
        confidence=transcript.confidence if transcript.text else 0.0,
        error=error,
    )
