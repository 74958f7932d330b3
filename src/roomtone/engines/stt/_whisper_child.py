"""The recogniser's other half, in a process of its own: native code that nobody can stop, and that needs much memory.

A decode takes about as long for one word as for thirty seconds: Whisper always looks at thirty. So nothing is decoded
in which Silero's voice detector, which comes with faster-whisper, finds no voice.
"""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from roomtone import models
from roomtone.core.errors import EngineUnavailable
from roomtone.core.sound import RATE, Audio

LEAST_VOICED_S = 0.06
"""Seconds of voice below which there can be no word."""

VAD_WINDOW = 512
"""Samples that the voice detector judges at a time."""

TOKENS, TOKENS_PER_S, MOST_TOKENS = 16, 12, 220
"""Bound on the tokens of a text, by the sound's length: who speaks fast says five words a second. A model that has
fallen into a loop goes on to the bound. Whisper's own is 448, for prompt and text together."""

_ASIDE = re.compile(r"\[[^\]]*\]|\([^)]*\)|[♪♫]+")
_MARK = re.compile(r"(?<=\d)[.,:/](?=\d)|(?<=\w)['-](?=\w)|[%°$€£+*=&]|([^\w\s])")


class Decoded(NamedTuple):
    """What a decode found. ``text`` is plain (see ``plain``).

    ``log_probability`` is the mean of its tokens', natural; ``no_speech`` the probability that there is no speech at
    all; ``compression`` how many times smaller zlib makes the text; ``language_probability`` is 1 where the language
    was given; ``voiced_s`` how much of the sound was voice; ``seconds`` how long all this took.
    """

    text: str = ""
    log_probability: float = 0.0
    no_speech: float = 0.0
    compression: float = 0.0
    language: str = ""
    language_probability: float = 1.0
    voiced_s: float = 0.0
    seconds: float = 0.0


class Recogniser:
    """A loaded model, warmed: its first decode is done."""

    def __init__(self, model: str, threads: int, beam_size: int) -> None:
        from faster_whisper import WhisperModel
        from faster_whisper.vad import get_vad_model

        name = models.typed("whisper", Path(model).name)
        if not Path(model, "model.bin").is_file():  # else the library takes the path for a name to fetch
            raise EngineUnavailable(f"the model {model} is gone; run: roomtone models pull {name}")
        if (reason := models.flaw_at(Path(model))) is not None:
            raise EngineUnavailable(reason)
        try:
            self._model: Any = WhisperModel(
                model, device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True
            )
        except Exception as error:  # CTranslate2 raises whatever C++ does
            reason = " ".join(str(error).split())
            raise EngineUnavailable(
                f"the model {model} cannot be loaded ({reason}); run: roomtone models pull {name}"
            ) from error
        self._voice: Any = get_vad_model()
        self._beam_size = beam_size
        self._warm_up = self._decode(np.zeros(RATE, np.float32), None, "", time.perf_counter())

    def ready(self) -> float:
        """Return the seconds that a decode takes here, as the warming one did."""
        return self._warm_up.seconds

    def decode(self, pcm: bytes, language: str | None, names: str) -> Decoded:
        """Decode at most 30 s of 16 kHz 16-bit sound as one whole; a ``language`` of None is detected.

        ``names`` is a text of words that are likelier here than elsewhere.
        """
        begun = time.perf_counter()
        sound = Audio.from_bytes(pcm).samples.astype(np.float32) / np.float32(32768)
        voiced_s = self._voiced_s(sound)
        if voiced_s < LEAST_VOICED_S:
            return Decoded(language=language or "", voiced_s=voiced_s, seconds=time.perf_counter() - begun)
        return self._decode(sound, language, names, begun)._replace(voiced_s=voiced_s)

    def _decode(self, sound: npt.NDArray[np.float32], language: str | None, names: str, begun: float) -> Decoded:
        if language not in self._model.supported_languages:
            language = None
        found, about = self._model.transcribe(
            sound,
            language=language,
            beam_size=self._beam_size,
            temperature=0.0,  # one pass: each further temperature would take as long again
            compression_ratio_threshold=None,  # what is believed is decided by the parent, in one place
            log_prob_threshold=None,
            no_speech_threshold=None,
            condition_on_previous_text=False,
            without_timestamps=True,
            vad_filter=False,
            hotwords=names or None,
            max_new_tokens=min(MOST_TOKENS, TOKENS + round(TOKENS_PER_S * len(sound) / RATE)),
        )
        segments = list(found)
        return Decoded(
            plain(" ".join(segment.text for segment in segments)),
            min((segment.avg_logprob for segment in segments), default=0.0),
            max((segment.no_speech_prob for segment in segments), default=0.0),
            max((segment.compression_ratio for segment in segments), default=0.0),
            about.language,
            about.language_probability,
            seconds=time.perf_counter() - begun,
        )

    def _voiced_s(self, sound: npt.NDArray[np.float32]) -> float:
        if not len(sound):
            return 0.0
        whole = np.pad(sound, (0, -len(sound) % VAD_WINDOW))
        return float(np.sum(self._voice(whole) > 0.5)) * VAD_WINDOW / RATE


def plain(text: str) -> str:
    """Return a text in lower case, without marks around words and without asides such as "[music]".

    Marks within a number or a word stay: "7:30", "to-do", "what's".
    """
    spoken = _ASIDE.sub(" ", text).replace("’", "'").lower()
    return " ".join(_MARK.sub(lambda mark: "" if mark[1] else mark[0], spoken).split())
