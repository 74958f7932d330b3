"""The language model seam: messages in, text deltas out. No engine of it ships yet: skills answer alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from roomtone.core.dialog import Message

AUTO: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """How to reply: at most ``max_tokens``, with this ``temperature`` (0 to 2)."""

    max_tokens: int = 400
    temperature: float = 0.7


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a reply: some text."""

    text: str


class Llm(Protocol):
    """A language model."""

    def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        """Answer the last message. Raises EngineError where the model failed."""
