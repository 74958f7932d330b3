"""No wake word: the room listens openly, or waits for its button."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roomtone.core.sound import Audio
from roomtone.engines import EngineSettings
from roomtone.engines.wake import Detection


class Settings(EngineSettings):
    """Nothing to set."""


class Deaf:
    """Never hears its name."""

    def feed(self, audio: Audio) -> Detection | None:  # noqa: ARG002  # the seam's signature
        """Return None."""
        return None


def missing(settings: Settings) -> str | None:  # noqa: ARG001  # the seam's signature
    """Return None: it needs nothing."""
    return None


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Deaf]:  # noqa: A001, ARG001  # every engine's verb
    """Open it."""
    yield Deaf()
