"""A model that says what it was told to say, and fails as it was told to fail: for rehearsals and tests."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from roomtone import outbound
from roomtone.core.dialog import Message, Role
from roomtone.engines import EngineSettings
from roomtone.engines.llm import LlmError, Options, Piece, Text, ToolCall, Trouble, Usage


class Call(BaseModel):
    """A tool that is called after the text; ``arguments`` is JSON, if all is to be well."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    arguments: str = "{}"


class Reply(BaseModel):
    """One reply. Words are counted from 1, as white space parts them; times are in seconds.

    ``dies_after`` and ``stalls_after`` so many words it fails, or says nothing more until it is closed. ``trouble``
    is what it fails with; with neither of the two, it does so before the first word. ``dies_late``: it fails after
    its text and its calls.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    text: str = ""
    calls: tuple[Call, ...] = ()
    dies_after: int | None = Field(None, ge=0)
    dies_late: bool = False
    stalls_after: int | None = Field(None, ge=0)
    trouble: Trouble | None = None
    retry_after_s: float | None = None
    first_piece_s: float = Field(0.0, ge=0)
    delta_s: float = Field(0.0, ge=0)
    usage: bool = True


class Settings(EngineSettings):
    """What is said, a reply an entry: a text alone, or the keys of ``Reply``."""

    texts: tuple[Reply, ...] = ()
    loop: bool = False
    """Begin again with the first when the last was used; else nothing is said any more, which is a failure."""
    model: str = "script"
    host: str | None = None
    """Say that the messages go there; nothing is sent."""
    continues: bool = False
    """Go on where the assistant's message at the end breaks off, if the reply begins with it."""
    recovers: bool = True
    """Answer when asked whether all is well."""

    @field_validator("texts", mode="before")
    @classmethod
    def _plain(cls, texts: Any) -> Any:
        if not isinstance(texts, (list, tuple)):
            return texts
        return [{"text": text} if isinstance(text, str) else text for text in texts]


def missing(settings: Settings) -> str | None:  # noqa: ARG001  # the seam's signature
    """Nothing can be missing."""
    return None


class Script:
    """Gives the scripted replies in order; ``asked`` are the messages and options of each."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.continues = settings.continues
        self.host = settings.host
        self.model = settings.model
        self.context = 0
        self.asked: list[tuple[tuple[Message, ...], Options]] = []
        self.checked = 0

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Count the words of each text."""
        return [len(text.split()) for text in texts]

    async def check(self) -> None:
        """Say that all is well, or fail, as the script says."""
        self.checked += 1
        if not self._settings.recovers:
            raise LlmError(f"{self.model}: told to be ill")

    async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        """Say the next reply of the script, a word a piece. Raises LlmError where it is told to fail."""
        size = sum(len(message.text.encode()) for message in messages)
        outbound.leaving(self.host, size, "text", options.why)
        self.asked.append((tuple(messages), options))
        reply = self._next()
        words = _words(self._rest(reply.text, messages))
        await asyncio.sleep(reply.first_piece_s)
        if reply.trouble is not None and reply.dies_after is None and not reply.dies_late:
            raise self._told_to_fail(reply)
        for number, word in enumerate(words):
            await self._faults(reply, number)
            yield Text(word)
            await asyncio.sleep(reply.delta_s)
        await self._faults(reply, len(words))
        for place, call in enumerate(reply.calls):
            yield ToolCall(f"call-{len(self.asked)}-{place}", call.name, call.arguments)
        if reply.dies_late:
            raise self._told_to_fail(reply)
        if reply.usage:
            read = sum(await self.count([message.text for message in messages]))
            yield Usage(read, len(words) + len(reply.calls))

    def _next(self) -> Reply:
        texts, number = self._settings.texts, len(self.asked)
        if number <= len(texts):
            return texts[number - 1]
        return texts[(number - 1) % len(texts)] if texts and self._settings.loop else Reply()

    def _rest(self, text: str, messages: Sequence[Message]) -> str:
        last = messages[-1] if messages else None
        if not self.continues or last is None or last.role is not Role.ROOMTONE:
            return text
        return text.removeprefix(last.text)

    async def _faults(self, reply: Reply, number: int) -> None:
        if number == reply.stalls_after:
            await asyncio.Event().wait()
        if number == reply.dies_after:
            raise self._told_to_fail(reply)

    def _told_to_fail(self, reply: Reply) -> LlmError:
        trouble = reply.trouble or Trouble.BUSY
        return LlmError(f"{self.model}: told to fail ({trouble})", trouble, reply.retry_after_s)


def _words(text: str) -> list[str]:
    """Part a text into words, each with the white space before it."""
    return re.findall(r"\s*\S+", text)


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Script]:  # noqa: A001  # the name every engine has
    """Open the script at its beginning."""
    yield Script(settings)
