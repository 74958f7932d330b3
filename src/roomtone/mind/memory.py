"""What is known of the household beyond a conversation: facts, preferences, and what conversations were about.

The seam behind which another memory can be put: the default one is ``memories/``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import Field

from roomtone.core.dialog import Noun, new_id, now


class Level(StrEnum):
    """What a memory is: something that holds, something a person likes, or what a conversation was about."""

    FACT = "fact"
    PREFERENCE = "preference"
    SUMMARY = "summary"


class Fact(Noun):
    """Something to know. ``persona`` is the only one that knows it; None: every persona of the household does.

    ``text`` is as the household would say it ("the cat is called Minka"). ``trace`` is the turn it was told in.
    """

    id: str = Field(default_factory=new_id)
    level: Level = Level.FACT
    text: str = Field(min_length=1, max_length=2000)
    persona: str | None = None
    at: datetime = Field(default_factory=now)
    expires: datetime | None = None
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A fact that belongs to what was asked, and how well: relevance and recency together, 0 to 1."""

    fact: Fact
    score: float


class Memory(Protocol):
    """A memory. Every change has reached the disk when its call returns. All raise StoreError where that fails."""

    async def recall(self, text: str, persona: str, limit: int = 5) -> list[Recalled]:
        """Return what belongs to a text, of what this persona may know, the best first; quickly: someone waits."""

    async def preferences(self, persona: str) -> list[Fact]:
        """List what the household likes, as far as this persona may know: it reaches every prompt."""

    async def facts(self, persona: str | None = None, text: str = "", limit: int = 100) -> list[Fact]:
        """List what a persona may know (None: all there is), the newest first; with ``text``, what belongs to it."""

    async def keep(self, fact: Fact) -> Fact:
        """Keep a fact; one that says the same already is brought up to date instead. Return it as it is kept."""

    async def forget(self, ids: Sequence[str]) -> list[Fact]:
        """Forget facts by id or the beginning of one (4 letters at least); return those that were known."""
