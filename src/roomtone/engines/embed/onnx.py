"""Sentence encoders in ONNX, of the kind of all-MiniLM-L6-v2: a folder with ``model.onnx`` and ``tokenizer.json``.

What the model says of each token is averaged over the tokens that are there, and brought to the length of 1, as the
models of the sentence-transformers family were trained to be used (Reimers and Gurevych 2019, "Sentence-BERT").
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from roomtone import models
from roomtone.core.errors import EngineError, EngineUnavailable
from roomtone.engines import EngineSettings, lacking
from roomtone.flow import Worker, worker

LONGEST = 256
"""Tokens of a text that are read: as many as these models were trained on."""

AT_ONCE = 16
"""Texts that are computed together; more take more memory and no less time."""

RECOMMENDED = "embed-all-MiniLM-L6-v2"

Vectors = npt.NDArray[np.float32]


class Settings(EngineSettings):
    """``model``: the name of an installed one (None: the first); ``timeout_s``: longest for one request."""

    model: str | None = None
    models_dir: Path = Path("models")
    timeout_s: float = 10.0


class OnnxEmbed:
    """Computes on a thread of its own, so that the room hears on meanwhile."""

    def __init__(self, name: str, encoder: _Encoder, thread: Worker, timeout_s: float) -> None:
        self.name = name
        self._encoder = encoder
        self._thread = thread
        self._timeout_s = timeout_s

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one row a text, of length 1, or of zeros for one without a token: (n, d). Raises EngineError."""
        parts = [texts[start : start + AT_ONCE] for start in range(0, len(texts), AT_ONCE)] or [[]]
        rows = [await self._thread.call(self._encoder.encoded, part, timeout=self._timeout_s) for part in parts]
        return np.concatenate(rows)


class _Encoder:
    """A model and its tokeniser."""

    def __init__(self, session: Any, tokenizer: Any) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._inputs = [given.name for given in session.get_inputs()]
        self._dimensions = len(self.encoded(["a"])[0])

    def encoded(self, texts: Sequence[str]) -> Vectors:
        if not texts:
            return np.zeros((0, self._dimensions), np.float32)
        tokens = [self._tokenizer.encode(text).ids[:LONGEST] for text in texts]
        longest = max(1, *map(len, tokens))
        ids = np.array([each + [0] * (longest - len(each)) for each in tokens], np.int64)
        mask = np.array([[1] * len(each) + [0] * (longest - len(each)) for each in tokens], np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        try:
            said = self._session.run(None, {name: given[name] for name in self._inputs})[0]
        except Exception as error:  # the runtime raises plain exceptions of its own
            raise EngineError(
                f"embed engine 'onnx': the model failed ({' '.join(str(error).split())[:200]})"
            ) from error
        if said.ndim != 3:
            raise EngineError(
                "embed engine 'onnx': the model says nothing of each token, so it is no sentence encoder"
            )
        weights = mask[:, :, np.newaxis].astype(np.float32)
        mean = (said * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
        lengths = np.linalg.norm(mean, axis=1, keepdims=True)
        vectors: Vectors = (mean / np.maximum(lengths, 1e-9)).astype(np.float32)
        return vectors


def missing(settings: Settings) -> str | None:
    """Return what is lacking, a library or the model, and the command that brings it."""
    for module in ("onnxruntime", "tokenizers"):
        if (reason := lacking(module, "embed")) is not None:
            return reason
    if settings.model is not None:
        return models.flaw("embed", settings.model, settings.models_dir)
    if _chosen(settings) is not None:
        return None
    for name in models.present("embed", settings.models_dir):
        if (reason := models.flaw("embed", name, settings.models_dir)) is not None:
            return reason
    return f"there is no model in {settings.models_dir / 'embed'}; run: roomtone models pull {RECOMMENDED}"


def _chosen(settings: Settings) -> str | None:
    if settings.model is not None:
        return settings.model
    folder = settings.models_dir
    whole = (name for name in models.installed("embed", folder) if models.flaw("embed", name, folder) is None)
    return next(whole, None)


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[OnnxEmbed]:  # noqa: A001 - the seam's name for it
    """Open a model: one thread, no spinning. Raises EngineUnavailable where it cannot be read."""
    name = _chosen(settings)
    if (reason := missing(settings)) is not None or name is None:
        raise EngineUnavailable(f"embed engine 'onnx': {reason}")
    with worker("embed") as thread:
        encoder = await thread.call(_loaded, models.path_of("embed", name, settings.models_dir))
        yield OnnxEmbed(name, encoder, thread, settings.timeout_s)


def _loaded(folder: Path) -> _Encoder:
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        return _Encoder(session, tokenizer)
    except Exception as error:  # both libraries raise plain exceptions of their own for a file that is not a model
        typed = models.typed("embed", folder.name)
        raise EngineUnavailable(
            f"embed engine 'onnx': {folder} cannot be used as a sentence encoder; get it anew: "
            f"roomtone models remove {typed} && roomtone models pull {typed}"
        ) from error
