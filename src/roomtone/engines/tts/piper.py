"""Piper: neural voices on this machine, each a file of 20 to 110 MB in the models folder.

Piper makes a sentence at a time and gives its sound when all of it is there. So that the first sound comes early, a
long sentence is made clause by clause: the first piece short, the others longer, each while the one before it plays.
It has no pitch of its own: a higher voice is one made slower and played faster, which moves the formants too.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from roomtone import models
from roomtone.core.dialog import Voice
from roomtone.core.errors import EngineError, EngineUnavailable
from roomtone.core.sound import Audio, to_int16
from roomtone.engines import EngineSettings, lacking
from roomtone.flow import Worker, close, worker

log = logging.getLogger(__name__)

NAME = "piper"

FIRST = "en_US-amy-medium"
"""The voice to begin with in English, as ``roomtone models pull`` knows it."""

QUALITIES = ("medium", "low", "x_low", "high")
"""As voices' names end, the preferred first. The large ones come last: they cost several times the work."""

FIRST_PIECE, LATER_PIECE = 40, 80
"""Characters of a long sentence's pieces, at most, where its clauses allow it. The second is twice the first: a voice
that needs half of real time makes it while the first plays."""

SHORT = 60
"""Characters up to which a sentence is made in one piece."""

PEAK = 0.8 * 32768
"""What a voice's own level is brought to, by one gain for all it says: -2 dBFS, measured on ``WARM_UP``."""

WARM_UP = "1, 2, 3."
"""Spoken to nobody when a voice is loaded: figures are words in every language."""

SILENCE = 10 ** (-50 / 20) * 32768
"""Below it, at the ends of a piece, there is no speech."""

LEAD_S = 0.01
"""Kept of the silence before a piece, so that no soft consonant is cut."""

_ESPEAK = re.compile(r"[a-z]{2,3}(-[a-z]+)*(\+\w+)?")
"""How voices of espeak-ng are called: no Piper voice that could be pulled."""

_CLAUSE = re.compile(r"[,;:–—)][\"'”’]?\s+")


class Settings(EngineSettings):
    """Which voice speaks where the persona names none, and what it may cost."""

    voice: str | None = None
    """A voice's name, such as en_US-lessac-medium; without one, the best there is for the language."""
    models_dir: Path = Path("models")
    """Where voices are looked for, in its folder ``piper``."""
    language: str = "en"
    """What a voice must speak to be chosen where none is named."""
    speed: float = Field(1.0, ge=0.5, le=2.0)
    """Factor on the voice's own, times the persona's."""
    pause_ms: float = Field(40.0, ge=0, le=2000)
    """Silence after each sentence or clause; the voice's own is cut off."""
    threads: int = Field(2, ge=1, le=16)
    """Of the processor's, while a sentence is being made."""
    loaded: int = Field(2, ge=1, le=8)
    """Voices kept in memory; the one that has not spoken for longest goes first."""


# ------------------------------------------------------------------------------------- voices on disk


def missing(settings: Settings) -> str | None:
    """Say what is lacking, the library or a voice, and what brings it."""
    if (reason := lacking("piper", "piper")) is not None:
        return reason
    folder = settings.models_dir
    if settings.voice is not None:
        return models.flaw(NAME, settings.voice, folder)
    if find_voice(settings) is not None:
        return None
    for name in models.present(NAME, folder):
        if (reason := models.flaw(NAME, name, folder)) is not None:
            return reason
    english = settings.language.partition("-")[0] == "en"
    mend = f"run: roomtone models pull {FIRST}" if english else "choose one: roomtone models list"
    return f"there is no voice for {settings.language} in {folder / NAME}; {mend}"


def find_voice(settings: Settings) -> str | None:
    """Return the voice that speaks where none is named; None where there is none for the language."""
    language = settings.language.partition("-")[0]
    fit = [name for name in _whole(settings.models_dir) if re.split("[_-]", name)[0] == language]
    return min(fit, key=_rank, default=None)


def _whole(folder: Path) -> list[str]:
    return [name for name in models.installed(NAME, folder) if models.flaw(NAME, name, folder) is None]


def _rank(name: str) -> tuple[int, str]:
    quality = name.rpartition("-")[2]
    return QUALITIES.index(quality) if quality in QUALITIES else len(QUALITIES), name


# ---------------------------------------------------------------------------------------- text in pieces


def pieces(sentence: str) -> Iterator[str]:
    """Cut a long sentence at its clauses: the first piece soon, so that it can be heard while the rest is made."""
    ends = [clause.end() for clause in _CLAUSE.finditer(sentence)] if len(sentence) > SHORT else []
    ends.append(len(sentence))
    start, limit = 0, FIRST_PIECE
    while start < len(sentence):
        fit = [end for end in ends if start < end <= start + limit]
        end = fit[-1] if fit else next(end for end in ends if end > start)
        yield sentence[start:end]
        start, limit = end, LATER_PIECE


def _clean(text: str) -> str:
    """Take out what Piper would trip over: NUL, lone surrogates, and [[, which begins phonemes."""
    return text.replace("\0", " ").replace("[[", "[ [").encode("utf-8", "replace").decode("utf-8").strip()


# ---------------------------------------------------------------------------------------------- engine


class Piper:
    """Speaks sentences at the rate of the voice."""

    def __init__(self, voices: Voices, thread: Worker) -> None:
        self._voices = voices
        self._thread = thread

    async def speak(self, sentence: str, voice: Voice) -> AsyncIterator[Audio]:
        """Yield a sentence, a long one clause by clause.

        A voice of another engine's, or one that is not on disk, is spoken by the default voice. Raises EngineError
        where the voice cannot be loaded or used.
        """
        text = _clean(sentence)
        if not text:
            return
        interruption = self._voices.interruption()
        sounds: AsyncIterator[Audio] = self._thread.stream(partial(self._voices.say, text, voice, interruption))
        try:
            async for sound in sounds:
                yield sound
        finally:
            interruption.terminate = True
            await close(sounds)


@dataclass(slots=True)
class Loaded:
    """A voice in memory; ``gain`` brings its sound to our level."""

    name: str
    piper: Any
    session: Session
    gain: float = 0.0


class Session:
    """An onnxruntime session whose runs end early where ``interruption.terminate`` is set, from any thread."""

    def __init__(self, native: Any) -> None:
        self._native = native
        self.interruption: Any = None

    def run(self, outputs: Any, inputs: Any) -> Any:
        """Run the model, as Piper calls it."""
        return self._native.run(outputs, inputs, self.interruption)


class Voices:
    """The voices in memory. ``say`` and ``load`` must be called from the one worker thread."""

    def __init__(self, settings: Settings) -> None:
        import onnxruntime
        import piper

        self._onnx, self._piper = onnxruntime, piper
        self._settings = settings
        self._loaded: dict[str, Loaded] = {}
        self._absent: set[str] = set()
        self._default = settings.voice or find_voice(settings) or ""

    def interruption(self) -> Any:
        """Return what ends one sentence's work when its ``terminate`` is set."""
        return self._onnx.RunOptions()

    def say(
        self, text: str, voice: Voice, interruption: Any, emit: Callable[[Audio], None], stop: threading.Event
    ) -> None:
        """Make a sentence and emit it piece by piece, until done or stopped. Raises EngineError."""
        loaded = self.load(self._named(voice))
        rate = round(loaded.piper.config.sample_rate * voice.pitch)
        slowness = voice.pitch / (voice.speed * self._settings.speed)
        try:
            for piece in pieces(text):
                for sound in self._made(loaded, piece, slowness, interruption):
                    if stop.is_set():
                        return
                    emit(Audio(self._trimmed(sound * loaded.gain, rate), rate))
        except Exception as error:  # the runtime and espeak-ng raise plain exceptions of their own
            if not stop.is_set():
                raise EngineError(f"the Piper voice '{loaded.name}' failed: {_line(error)}") from error

    def _made(
        self, loaded: Loaded, text: str, slowness: float, interruption: Any = None
    ) -> Iterator[npt.NDArray[np.float32]]:
        """Make a text's sound, a sentence at a time, as loud as the model makes it."""
        loaded.session.interruption = interruption
        length = loaded.piper.config.length_scale * slowness
        config = self._piper.SynthesisConfig(length_scale=length, normalize_audio=False)
        for chunk in loaded.piper.synthesize(text, config):
            yield np.atleast_1d(chunk.audio_float_array)

    def _trimmed(self, sound: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.int16]:
        """Cut the silence off both ends and put the pause behind; a sound that is all silence is nothing."""
        loud = np.flatnonzero(np.abs(sound) > SILENCE)
        if not len(loud):
            return np.zeros(0, np.int16)
        lead, pause = round(LEAD_S * rate), round(self._settings.pause_ms / 1000 * rate)
        speech = sound[max(0, loud[0] - lead) : loud[-1] + 1]
        return to_int16(np.concatenate([speech, np.zeros(pause)]))

    def _named(self, voice: Voice) -> str:
        """Return the voice to speak with: the persona's where it is one of ours and on disk."""
        name = voice.voice_id if voice.engine in (None, NAME) else None
        if name is None or name in self._loaded:
            return name or self._default
        folder = self._settings.models_dir
        here = name in models.present(NAME, folder)
        reason = models.flaw(NAME, name, folder) if here else f"run: roomtone models pull {name}"
        if reason is None:
            return name
        nearest = self._nearest(name)
        if name not in self._absent and not _ESPEAK.fullmatch(name):
            self._absent.add(name)
            there = "is no whole" if here else "is no"
            log.warning("there %s Piper voice '%s' here, %s speaks instead; %s", there, name, nearest, reason)
        return nearest

    def _nearest(self, name: str) -> str:
        """Return the best voice on disk that speaks the language of the same country, else the default one."""
        spoken = name.lower().replace("_", "-").split("-")[:2]
        whole = _whole(self._settings.models_dir)
        kin = [each for each in whole if each.lower().replace("_", "-").split("-")[:2] == spoken]
        return self._default if self._default in kin else min(kin, key=_rank, default=self._default)

    def load(self, name: str = "") -> Loaded:
        """Return a voice, the default one without a name, loading and warming it if need be. Raises EngineError."""
        name = name or self._default
        loaded = self._loaded.pop(name, None) or self._fresh(name)
        self._loaded[name] = loaded  # last: the first is the one that has not spoken for longest
        while len(self._loaded) > self._settings.loaded:
            del self._loaded[next(iter(self._loaded))]
        return loaded

    def _fresh(self, name: str) -> Loaded:
        file = models.path_of(NAME, name, self._settings.models_dir)
        if (reason := models.flaw_at(file)) is not None:
            raise EngineUnavailable(f"the Piper voice '{name}' cannot be loaded ({reason})", voice=name)
        try:
            config = json.loads(file.with_name(f"{file.name}.json").read_text("utf-8"))
            session = Session(self._session(file))
            voice = self._piper.PiperVoice(session=session, config=self._piper.PiperConfig.from_dict(config))
            loaded = Loaded(name, voice, session)
            peak = max((float(np.max(np.abs(sound))) for sound in self._made(loaded, WARM_UP, 1.0)), default=0.0)
        except Exception as error:  # as in say
            raise EngineUnavailable(
                f"the Piper voice '{name}' cannot be loaded ({_line(error)}); run: roomtone models pull {name}",
                voice=name,
            ) from error
        loaded.gain = PEAK / peak if peak > 0 else PEAK
        return loaded

    def _session(self, file: Path) -> Any:
        options = self._onnx.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = self._settings.threads, 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_mem_pattern = False  # it keeps a plan for every length of sentence, which only grows
        options.log_severity_level = 3  # errors come as exceptions
        return self._onnx.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Piper]:  # noqa: A001  # the name every engine has
    """Load the default voice and let it speak once, to nobody.

    Raises EngineUnavailable where it cannot be loaded or used.
    """
    with worker("piper") as thread:
        voices = await thread.call(Voices, settings)
        await thread.call(voices.load)
        yield Piper(voices, thread)
