"""A model that says back what it was told last: for trying out everything around a model, with nothing to install."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from roomtone.core.dialog import Message, Role
from roomtone.engines import EngineSettings
from roomtone.engines.llm import Options, Piece, Text, Usage


class Settings(EngineSettings):
    """An echo needs none."""


def missing(settings: Settings) -> str | None:  # noqa: ARG001  # the seam's signature
    """Nothing can be missing."""
    return None


class Echo:
    """Says back the last message of a person's, a word a piece; a word counts as a token."""

    continues = False
    host: str | None = None
    model = "echo"
    context = 0

    async def count(self, texts: Sequence[str]) -> list[int]:
        """Count the words of each text."""
        return [len(text.split()) for text in texts]

    async def check(self) -> None:
        """An echo can always answer."""

    async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        """Say back what the person said last, as many words of it as ``max_tokens``."""
        said = next((message.text for message in reversed(messages) if message.role is Role.PERSON), "")
        words = said.split()
        told = words[: options.max_tokens]
        for place, word in enumerate(told):
            yield Text(f" {word}" if place else word)
        read = sum(await self.count([message.text for message in messages]))
        yield Usage(read, len(told), cut=len(told) < len(words))


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Echo]:  # noqa: A001, ARG001  # the name and signature of the seam
    """Open an echo."""
    yield Echo()
