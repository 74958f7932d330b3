"""Talking with a language model over HTTP in tests: an engine of either dialect, and what it said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from roomtone import engines
from roomtone.core.dialog import Message, Role
from roomtone.core.tooling import ToolSpec
from roomtone.engines.llm import Llm, LlmError, Options, Piece, Text, ToolCall, Usage

TIMER = ToolSpec("timer.set", "Sets a timer.", {"type": "object", "properties": {"minutes": {"type": "number"}}})


def message(text: str, role: Role = Role.PERSON, **data: Any) -> Message:
    return Message(session="evening", role=role, text=text, data=data)


HELLO = (message("You are the voice of a room.", Role.SYSTEM), message("How are you?"))


@asynccontextmanager
async def engine(name: str, url: str, **keys: Any) -> AsyncIterator[Llm]:
    file = engines.load("llm", name)
    settings = file.Settings.model_validate({"base_url": url, "model": "scripted", "api_key": "secret-1", **keys})
    async with engines.open_engine("llm", name, settings) as llm:
        yield llm


@dataclass
class Heard:
    """What came of one reply: its pieces, and how it failed, if it did."""

    pieces: list[Piece] = field(default_factory=list)
    failed: LlmError | None = None

    @property
    def text(self) -> str:
        return "".join(piece.text for piece in self.pieces if isinstance(piece, Text))

    @property
    def calls(self) -> list[ToolCall]:
        return [piece for piece in self.pieces if isinstance(piece, ToolCall)]

    @property
    def usage(self) -> Usage | None:
        return next((piece for piece in self.pieces if isinstance(piece, Usage)), None)


async def heard(llm: Llm, messages: tuple[Message, ...] = HELLO, options: Options = Options()) -> Heard:  # noqa: B008
    result = Heard()
    try:
        async for piece in llm.reply(messages, options):
            result.pieces.append(piece)
    except LlmError as error:
        result.failed = error
    return result
