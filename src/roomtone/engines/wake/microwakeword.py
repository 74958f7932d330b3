"""Wake words by microWakeWord: small models made for microcontrollers; four come with the package, offline.

Every model scores the same 40 features, of which there is a set each 10 ms, so they are computed once for all. A
model takes three sets at a time, and a word counts where the mean of its last scores is above the threshold.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import sys
from asyncio.subprocess import DEVNULL
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from importlib import util
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from roomtone import models
from roomtone.core.errors import EngineUnavailable
from roomtone.core.sound import HOP, RATE, Audio
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.wake import Detection

PACKAGE = "pymicro_wakeword"

MAGIC = b"TFL3"
"""What stands at the fifth byte of a TensorFlow Lite model."""

FEATURES, HOP_BYTES = 40, 2 * HOP
"""Features of 10 ms, and the bytes of sound that they are made of."""

TRIAL_S = 30.0
"""How long a model of one's own may take to load and run once."""

NEAR = 0.25
"""Which part of its threshold makes a score one of something like the word."""

LEAST_THRESHOLD = 0.1

SINCE_END_S = {"alexa": 0.32, "okay_nabu": 0.2, "hey_mycroft": 0.03, "hey_jarvis": 0.1}
"""How long after a word's end its mean score is high enough where somebody speaks on in the same breath, in seven
synthesised voices (none of them was heard with hey_jarvis: that is a guess, as it is for a model of one's own).
Rather too long: the last sound of the word hinders a recogniser less than a lost first sound of what follows."""

SINCE_END_OF_OWN_S = 0.15


def shipped_models() -> dict[str, Path]:
    """Return the models that come with the package, by name; {} where it is not installed."""
    spec = util.find_spec(PACKAGE)
    folders = (spec.submodule_search_locations or []) if spec else []
    return {path.stem: path for folder in folders for path in sorted(Path(folder).glob("models/*.json"))}


def find_model(model: str) -> Path:
    """Return the description (.json) of a model given by name, or by the path of either of its two files."""
    if "/" in model or model.endswith((".json", ".tflite")):
        return Path(model).expanduser().with_suffix(".json")
    return shipped_models().get(model, Path(f"{model}.json"))


def _fault(model: str) -> str | None:
    """Return what is wrong with a model, or None; it is looked at and not loaded."""
    path = find_model(model)
    if path.parent == Path():
        names = shipped_models()
        if not names:
            return None  # the package is missing, which is told in its own words
        return f"there is no wake word '{model}'; choose from {', '.join(names)}, or give the path of a model's .json"
    try:
        described = json.loads(path.read_text("utf-8"))
        network = path.parent / described["model"]
        float(described["micro"]["probability_cutoff"]), int(described["micro"]["sliding_window_size"])
        with network.open("rb") as file:
            if file.read(8)[4:] != MAGIC:
                return f"{network} is no TensorFlow Lite model; fetch it again"
        if path.parent.name == "wake":
            return models.flaw_at(path)
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    except (ValueError, TypeError, KeyError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        return f"{path} does not describe a microWakeWord model: {reason}"
    return None


def _usable(model: str) -> str:
    fault = _fault(model)
    if fault is not None:
        raise ValueError(fault)
    return model


def _written_short(word: Any) -> Any:
    return {"model": word} if isinstance(word, str) else word


class Word(BaseModel):
    """A word to listen for, by the name or the path of its model.

    ``persona`` is woken by it (None: whoever is present). ``sensitivity`` 0 to 1 leaves the model's own threshold as
    it is at 0.5, leaves four times as much room for doubt at 1, and a quarter at 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Annotated[str, AfterValidator(_usable)]
    persona: str | None = None
    sensitivity: float = Field(0.5, ge=0, le=1)

    def threshold(self, own: float) -> float:
        """Return the mean score that counts, given the model's ``own``."""
        return max(LEAST_THRESHOLD, 1 - (1 - own) * 4 ** (2 * self.sensitivity - 1))


Written = Annotated[Word, BeforeValidator(_written_short)]


class Settings(EngineSettings):
    """``words`` call; ``stop`` silences while Roomtone speaks or rings, and needs a model of one's own.

    For ``refractory_s`` after a word none is heard again.
    """

    words: tuple[Written, ...] = (Word(model="okay_nabu"),)
    stop: Written | None = None
    refractory_s: float = Field(1.0, ge=0, le=10)


class _Network:
    """A loaded model, run with as few steps as Python allows: it is run thirty times a second, all day.

    ``loaded`` is the package's own object: its C library and tensors are used, and its settings.
    """

    def __init__(self, loaded: Any) -> None:
        self.name: str = loaded.id
        self.cutoff: float = loaded.probability_cutoff
        self._loaded = loaded
        self._wanted = loaded.stride * FEATURES
        self._waiting: list[float] = []
        self._input = np.zeros((1, loaded.stride, FEATURES), loaded.input_dtype)
        self._output = np.zeros(1, loaded.output_dtype)
        self._in, self._out = (array.ctypes.data_as(ctypes.c_void_p) for array in (self._input, self._output))
        self._scores: deque[float] = deque(maxlen=loaded.sliding_window_size)

    def hear(self, features: list[float]) -> float | None:
        """Take the features of the next 10 ms; return the mean score so far, or None between two runs."""
        self._waiting += features
        if len(self._waiting) < self._wanted:
            return None
        loaded = self._loaded
        scaled = np.asarray(self._waiting, np.float32) / loaded.input_scale + loaded.input_zero_point
        self._waiting.clear()
        np.rint(scaled.reshape(self._input.shape), out=self._input, casting="unsafe")
        loaded.lib.TfLiteTensorCopyFromBuffer(loaded.input_tensor, self._in, self._input.nbytes)
        loaded.lib.TfLiteInterpreterInvoke(loaded.interpreter)
        loaded.lib.TfLiteTensorCopyToBuffer(loaded.output_tensor, self._out, self._output.nbytes)
        self._scores.append((int(self._output[0]) - loaded.output_zero_point) * loaded.output_scale)
        full = len(self._scores) == self._scores.maxlen
        return sum(self._scores) / len(self._scores) if full else 0.0


@dataclass(slots=True)
class _Armed:
    """A word with its loaded model. ``fell``: its score was low since it was last heard."""

    word: Word
    network: _Network
    stops: bool
    threshold: float
    fell: bool = True


class MicroWakeWords:
    """Listens for all words at once; ``frontend`` makes the features of 10 ms."""

    def __init__(self, frontend: Any, armed: list[_Armed], refractory_s: float) -> None:
        self._frontend = frontend
        self._armed = armed
        self._refractory = round(refractory_s * RATE)
        self._deaf = 0
        self._waiting = b""

    def feed(self, audio: Audio) -> Detection | None:
        """Take the next stretch of 16 kHz sound; return the surest detection in it."""
        found = max(self._rises(audio), key=lambda risen: risen[0], default=None)
        self._deaf = max(0, self._deaf - len(audio))
        if found is None or self._deaf:
            return None
        score, armed = found
        sure = score > armed.threshold
        self._deaf = self._refractory if sure else 0
        name = armed.network.name
        since = round(SINCE_END_S.get(name, SINCE_END_OF_OWN_S) * RATE)
        return Detection(name, min(1.0, score), armed.word.persona, armed.stops, since, sure)

    def _rises(self, audio: Audio) -> Iterator[tuple[float, _Armed]]:
        """Yield what rises above its threshold (a score stays there for a second or more), or comes near to it."""
        pcm = self._waiting + audio.to_bytes()
        whole = len(pcm) // HOP_BYTES * HOP_BYTES
        self._waiting = pcm[whole:]
        for start in range(0, whole, HOP_BYTES):
            features = self._frontend.process_samples(pcm[start : start + HOP_BYTES]).features
            for armed in self._armed if features else ():
                score = armed.network.hear(features)
                if score is None:
                    continue
                high = score > armed.threshold
                if armed.fell and score > NEAR * armed.threshold:
                    yield score, armed
                armed.fell = not high


def missing(settings: Settings) -> str | None:
    """Return what installs the package where it is absent, or which model is not there any more."""
    if (reason := lacking(PACKAGE, "wake")) is not None:
        return reason
    faults = (_fault(word.model) for word in _words(settings))
    return next((fault for fault in faults if fault is not None), None)


def _words(settings: Settings) -> tuple[Word, ...]:
    return settings.words if settings.stop is None else (*settings.words, settings.stop)


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[MicroWakeWords]:  # noqa: A001 - the seam's name for it
    """Load the models. Raises EngineUnavailable for one that cannot be loaded."""
    from pymicro_features import MicroFrontend

    with ExitStack() as stack:
        for word in _words(settings):
            await _try_out(word)
        armed = [_load(stack, word, stops=word is settings.stop) for word in _words(settings)]
        yield MicroWakeWords(MicroFrontend(), armed, settings.refractory_s)


async def _try_out(word: Word) -> None:
    """Run a model of one's own elsewhere first. Raises EngineUnavailable where it brings down who runs it."""
    path = find_model(word.model)
    if path in shipped_models().values():
        return
    trial = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roomtone.engines.wake._trial", str(path)), stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        async with asyncio.timeout(TRIAL_S):
            failed = await trial.wait() != 0
    except TimeoutError:
        failed = True
    finally:
        if trial.returncode is None:
            trial.kill()
            await trial.wait()
    if failed:
        raise EngineUnavailable(f"wake word '{word.model}' cannot be loaded: it is not whole; fetch {path} again")


def _load(stack: ExitStack, word: Word, *, stops: bool) -> _Armed:
    from pymicro_wakeword import MicroWakeWord

    path = find_model(word.model)
    try:
        network = _Network(stack.enter_context(closing(MicroWakeWord.from_config(path))))
    except Exception as error:  # the library raises plain exceptions of its own for a broken model
        raise EngineUnavailable(f"wake word '{word.model}' cannot be loaded: {error}; fetch {path} again") from error
    return _Armed(word, network, stops, word.threshold(network.cutoff))
