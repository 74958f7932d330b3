"""A language model on this machine, run by llama.cpp in a process of its own: any chat model in GGUF.

What was read for one persona is kept while another is spoken to, so that nothing is read twice. With a model of ``n``
layers and ``h`` numbers for the keys of a token, that takes 4 n h bytes a token (28 kB for Qwen2.5 1.5B).
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from pydantic import Field

from roomtone import models
from roomtone.child import START_BOUND_S, Child, child
from roomtone.core.dialog import Message
from roomtone.core.model_files import Flawed, Gguf, read_gguf
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.llm import LlmError, Options, Piece, Text, ToolCall, Trouble, Usage
from roomtone.engines.llm._llama_child import Asked
from roomtone.flow import close

log = logging.getLogger(__name__)

KIND = "llama"
FIRST = "llm-qwen2.5-1.5b-instruct"
"""The model to begin with, as ``roomtone models pull`` knows it."""

SHARE = 2
"""A model whose file is larger than this part of the machine's memory is not chosen, only used where named."""

CHECK_BOUND_S = 10.0


class Settings(EngineSettings):
    """Which model answers, and what it may cost."""

    model: str | None = None
    """A model's name, such as qwen2.5-1.5b-instruct, or the path of a .gguf; without one, the largest that fits."""
    models_dir: Path = Path("models")
    """Where models and adapters are looked for, in its folder ``llama``."""
    threads: int = Field(default_factory=lambda: max(1, min(4, (os.cpu_count() or 1) - 1)), ge=1, le=64)
    """Of the processor's, while it reads and writes. One is left for the rest of the room: all threads wait for one
    that has to share."""
    context: int = Field(4096, ge=256, le=262_144)
    """Tokens that prompt and reply may have together, if the model knows as many."""
    batch: int = Field(128, ge=1, le=4096)
    """Tokens that are read at a time: what an interruption loses at most."""
    prefixes: int = Field(4, ge=1, le=64)
    """Personas (and purposes) for which what was read is kept, the one in the context included."""
    gpu_layers: int = Field(0, ge=-1)
    """Layers that a graphics processor takes, if llama.cpp was built for one; -1: all."""
    timeout_s: float = Field(60.0, gt=0)
    """Longest that it may give no sign of life: a batch read, or a piece written. Then it is killed."""


def missing(settings: Settings) -> str | None:
    """Say what is lacking, the library or a model, and what brings it."""
    reason = lacking("llama_cpp", KIND)
    if reason is not None:
        return reason
    path = _path(settings)
    if path is None:
        return f"there is no model in {settings.models_dir / KIND}; run: roomtone models pull {FIRST}"
    if _named(settings) is not None:
        return models.flaw(KIND, path.stem, settings.models_dir)
    return None if path.is_file() else f"there is no model at {path}; see llm.providers"


def _named(settings: Settings) -> str | None:
    """Return the model's name in the models folder; None where it is given by its path."""
    model = settings.model or best(settings.models_dir)
    return None if model is None or "/" in model or model.endswith(".gguf") else model.removeprefix("llm-")


def _path(settings: Settings) -> Path | None:
    name = _named(settings)
    if name is not None:
        return models.path_of(KIND, name, settings.models_dir)
    return Path(settings.model).expanduser() if settings.model else None


def best(folder: Path) -> str | None:
    """Return the name of the largest model that fits into memory; adapters and what is broken do not count."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    fit = {}
    for name in models.installed(KIND, folder):
        path = models.path_of(KIND, name, folder)
        about = facts(path)
        if about is not None and not about.adapter and (size := models.size_of(path)) < memory / SHARE:
            fit[name] = size
    return max(fit, key=lambda name: fit[name], default=None)


def facts(path: Path) -> Gguf | None:
    """Return what the head of a GGUF file says; None where it is none."""
    try:
        with path.open("rb") as opened, mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
            return read_gguf(content)
    except (OSError, ValueError, Flawed):
        return None


class LlamaCpp:
    """A model on this machine."""

    continues = True
    one_at_a_time = True
    host = None

    def __init__(self, process: Child, settings: Settings, path: Path) -> None:
        about = facts(path)
        self.model = path.stem
        self.context = min(settings.context, (about.context if about else 0) or settings.context)
        self._process = process
        self._settings = settings

    @property
    def pid(self) -> int | None:
        """The child's process id, once it runs."""
        return self._process.pid

    async def check(self) -> None:
        """Load the model, if it is not there yet. Raises EngineError where that cannot be."""
        about = await self._process.call("about", timeout=CHECK_BOUND_S, start_timeout=START_BOUND_S)
        self.context = about["context"]

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text is. It waits for a reply that is being written."""
        counted: list[int] = await self._process.call("count", list(texts), timeout=self._settings.timeout_s)
        return counted

    async def prefill(self, messages: Sequence[Message], options: Options) -> None:
        """Read messages before they are needed; being cancelled keeps what was read by then."""
        pieces = self._pieces("prefill", messages, options)
        async for _ in pieces:
            pass

    async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        """Answer the last message, or go on with it if it is the assistant's (see the seam).

        Raises LlmError (TOO_LONG before anything was read; MODEL for an adapter that does not fit), EngineTimeout,
        or EngineCrashed; the next call has a new process then.
        """
        pieces = self._pieces("reply", messages, options)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await close(pieces)

    async def _pieces(self, method: str, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        told = self._process.stream(method, self._asked(messages, options), timeout=self._settings.timeout_s)
        try:
            async for kind, *about in told:
                if kind == "text":
                    yield Text(about[0])
                elif kind == "call":
                    yield ToolCall(f"call_{uuid.uuid4().hex[:12]}", about[0], about[1])
                elif kind == "usage":
                    read, cached, written, cut = about
                    yield Usage(input_tokens=read, output_tokens=written, cached_tokens=cached, cut=cut)
                elif kind == "failed":
                    raise LlmError(f"llama_cpp: {about[1]}", Trouble(about[0]))
        finally:
            await close(told)

    def _asked(self, messages: Sequence[Message], options: Options) -> Asked:
        adapter = self._adapter(options.adapter) if options.adapter else None
        return Asked(
            messages=[_plain(message) for message in messages],
            key=(options.persona, options.why, adapter or ""),
            adapter=adapter,
            max_tokens=options.max_tokens,
            temperature=options.temperature,
            top_p=options.top_p,
            stop=options.stop,
            tools=tuple(
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": dict(tool.parameters),
                    },
                }
                for tool in options.tools
            ),
            schema=options.schema,
        )

    def _adapter(self, name: str) -> str:
        if "/" in name or name.endswith(".gguf"):
            return str(Path(name).expanduser())
        return str(models.path_of(KIND, name, self._settings.models_dir))


def _plain(message: Message) -> dict[str, Any]:
    """Return a message as plain data: the child goes without what Message needs."""
    plain: dict[str, Any] = {"role": message.role.value, "text": message.text}
    if calls := message.data.get("calls"):
        plain["calls"] = list(calls)
    if name := message.data.get("name"):
        plain["name"] = str(name)
    return plain


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[LlamaCpp]:  # noqa: A001  # the seam's name for it
    """Open the engine. Its process starts, and the model is loaded, with the first call (``check`` is one)."""
    path = _path(settings)
    assert path is not None  # ``missing`` has looked
    arguments = (settings.context, settings.batch, settings.threads, settings.prefixes, settings.gpu_layers)
    async with child("llama_cpp", "roomtone.engines.llm._llama_child:Llama", str(path), *arguments) as process:
        yield LlamaCpp(process, settings, path)
