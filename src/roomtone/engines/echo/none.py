"""No echo processing, for headsets and for rooms where the microphone cannot hear the loudspeaker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roomtone.core.sound import HOP, Audio
from roomtone.engines import EngineSettings
from roomtone.engines.echo import EchoFrame


class Settings(EngineSettings):
    """Nothing to set."""


def missing(settings: Settings) -> str | None:  # noqa: ARG001
    """Return None: there is nothing to lack."""
    return None


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[NoEcho]:  # noqa: A001, ARG001
    """Open it."""
    yield NoEcho()


class NoEcho:
    """An ``Echo`` that passes everything through: the plain voice detector decides at all times."""

    def process(self, near: Audio, far: Audio) -> EchoFrame:
        """Return ``near``. Raises ValueError for frames of another length than 160 samples."""
        if len(near) != HOP or len(far) != HOP:
            raise ValueError(f"echo frames have {HOP} samples, not {len(near)} and {len(far)}")
        return EchoFrame(near, 0.0, playing=False)

    def rest(self, near: Audio) -> bool:  # noqa: ARG002
        """Return True: nothing is ever heard of the loudspeaker."""
        return True

    def relearn(self) -> None:
        """Do nothing: nothing was learnt."""
