"""Whisper and Piper on this machine, with the models of a folder: how soon, how gapless, how right.

Nothing is measured of an engine that cannot be opened with what is in the folder. In a Whisper model's folder there
may be a ``phrases.json``: ``phrases`` that it should know, and ``voices`` of espeak-ng to say them in. All goes
through the daemon's own pipeline, on a clock that passes while an engine works.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from roomtone import engines
from roomtone.bench import Figure, p
from roomtone.bench.people import VOICES, said
from roomtone.bench.turns import gaps
from roomtone.core.dialog import Turn
from roomtone.core.errors import EngineUnavailable, UsageError
from roomtone.core.sound import Audio
from roomtone.mind.sentences import Skills
from roomtone.rehearsal import Rehearsal, rehearsing
from roomtone.settings import Settings

PHRASES_FILE = "phrases.json"

VOICES_A_PHRASE = 2

UNKNOWN_PHRASES = 10
"""Sample sentences said where the folder does not tell what its recogniser should know."""

Interval = tuple[float, float]


async def measure(models: Path) -> list[Figure]:
    """Measure the engines that ``models`` has something for; say on stderr why another is left out.

    Raises UsageError where the folder's ``phrases.json`` is broken.
    """
    figures = []
    for seam, name, measuring in (("stt", "whisper", _whisper), ("tts", "piper", _piper)):
        try:
            settings = Settings.model_validate(
                {"listen": {"mode": "open"}, seam: {"engine": name, "models_dir": models}}
            )
            engines.open_engine(seam, *settings.engine(seam))
        except EngineUnavailable as error:
            sys.stderr.write(f"roomtone: not measured: {error.message}\n")
            continue
        figures += await measuring(settings, models)
    return figures


async def _piper(settings: Settings, models: Path) -> list[Figure]:  # noqa: ARG001  # as _whisper
    return [await gaps(settings, "piper_gap_ms_p95")]


async def _whisper(settings: Settings, models: Path) -> list[Figure]:
    """Say the phrases, each in ``VOICES_A_PHRASE`` voices by turns, and look when their text was there."""
    phrases, voices = phrases_of(models)
    known = bool(phrases)
    texts = phrases or [text for _, text in Skills.load("en").samples()][:UNKNOWN_PHRASES]
    spoken = [
        (text, voices[(place * VOICES_A_PHRASE + n) % len(voices)])
        for place, text in enumerate(texts)
        for n in range(VOICES_A_PHRASE)
    ]
    heard = [one async for one in _conversation(settings, spoken)]
    answered = [one for one in heard if one.first_sound is not None and one.decodes]
    after = [1000 * one.after_text() for one in answered]
    saved = [1000 * one.saved() for one in answered]
    shares = [one.share_ahead() for one in answered]
    right = [one.is_right for one in heard]
    figures = [
        Figure("whisper_first_sound_after_stt_ms_p95", p(95, after), "ms", "<= 150", len(after)),
        Figure("whisper_partials_saving_ms_p50", p(50, saved), "ms", "", len(saved)),
        Figure("whisper_partials_share", _percent(shares), "%", "", len(shares)),
    ]
    if known:
        figures.append(Figure("household_phrases_right", _percent(right), "%", ">= 95", len(right)))
    return figures


def _percent(shares: Sequence[float]) -> float | None:
    return round(100 * sum(shares) / len(shares), 1) if shares else None


class Heard:
    """What became of one phrase: its turns, when decodes ran (loop's seconds) and when the first sound came."""

    def __init__(self, text: str, turns: list[Turn], decodes: list[Interval], first_sound: float | None) -> None:
        self.text = text
        self.turns = turns
        self.decodes = decodes
        self.first_sound = first_sound

    @property
    def is_right(self) -> bool:
        """Whether it came to one turn, whose words are those that were said."""
        return [words(turn.heard) for turn in self.turns] == [words(self.text)]

    @property
    def decided(self) -> float:
        """When the utterance was found to have ended."""
        assert self.first_sound is not None
        latency = self.turns[0].latency_ms
        return self.first_sound - sum(taken or 0.0 for taken in (latency.stt, latency.think, latency.tts)) / 1000

    def after_text(self) -> float:
        """Return the seconds from Whisper's finish, or from the utterance's end where that is later, to the sound."""
        assert self.first_sound is not None
        return self.first_sound - max(self.decodes[-1][1], self.decided)

    def saved(self) -> float:
        """Return how many seconds sooner the text was there than if its decode had begun at the utterance's end."""
        begun, done = self.decodes[-1]
        return min(done - begun, max(0.0, self.decided - begun))

    def share_ahead(self) -> float:
        """Return the part of that decode which was done by the utterance's end."""
        begun, done = self.decodes[-1]
        return self.saved() / (done - begun)


def words(text: str) -> list[str]:
    """Return a text's words, without case and punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower().replace("-", " "))


async def _conversation(settings: Settings, spoken: Sequence[tuple[str, str]]) -> AsyncIterator[Heard]:
    espeak = engines.load("tts", "espeak").Settings()
    async with engines.open_engine("tts", "espeak", espeak) as people, _rehearsal(settings) as (room, decodes):
        for text, voice in spoken:
            decodes.clear()
            sound: Audio = await said(people, text, voice)
            room.device.visit(sound)
            turns = await room.at_rest()
            sounded = bool(turns) and turns[0].latency_ms.first_sound is not None
            first_sound = room.first_sound_at(turns[0]) if sounded else None
            # Decodes that ended after the sound belong to noises behind the phrase.
            before = [one for one in decodes if first_sound is None or one[1] <= first_sound]
            yield Heard(text, turns, before, first_sound)


@asynccontextmanager
async def _rehearsal(settings: Settings) -> AsyncIterator[tuple[Rehearsal, list[Interval]]]:
    """Open a room whose recogniser writes down when it decoded."""
    wav = ("wav", engines.load("audio", "wav").Settings())
    with tempfile.TemporaryDirectory() as folder:
        async with rehearsing(settings, Path(folder), wav, rings=False) as rehearsal:
            decodes: list[Interval] = []
            engine: Any = rehearsal.room.parts.stt.places[0].engine
            engine.decode = _timed(engine.decode, decodes)
            yield rehearsal, decodes


def _timed(decode: Callable[..., Awaitable[Any]], decodes: list[Interval]) -> Callable[..., Awaitable[Any]]:
    async def timed(*args: Any) -> Any:
        begun = asyncio.get_running_loop().time()
        found = await decode(*args)
        decodes.append((begun, asyncio.get_running_loop().time()))
        return found

    return timed


def phrases_of(models: Path) -> tuple[list[str], list[str]]:
    """Return what a folder's Whisper should know, if it is said there, and the voices to say it in.

    Raises UsageError for a file that is not what it should be.
    """
    file = next(iter(sorted(models.glob(f"whisper/*/{PHRASES_FILE}"))), None)
    if file is None:
        return [], list(VOICES)
    try:
        content = json.loads(file.read_text("utf-8"))
        phrases, voices = content["phrases"], content["voices"]
        fit = all(isinstance(text, str) for text in [*phrases, *voices]) and bool(voices)
    except (OSError, ValueError, LookupError, TypeError):
        fit = False
    if not fit:
        raise UsageError(
            f'{file} is broken; write it as in {{"phrases": ["Stop."], "voices": ["en-gb"]}}, or remove it'
        )
    return phrases, voices
