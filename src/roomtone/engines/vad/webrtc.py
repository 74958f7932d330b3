"""WebRTC's voice detector: needs no model, costs about 0.1 ms a second of sound."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pydantic import Field

from roomtone.core.sound import FRAME, RATE, Audio
from roomtone.engines import EngineSettings, lacking


class Settings(EngineSettings):
    """``mode`` 0 to 3: how readily a frame is refused as not speech."""

    mode: int = Field(2, ge=0, le=3)


class WebrtcVad:
    """Says 0 or 1. It stays at 1 for a while after speech, so its word is not taken for an utterance's end."""

    def __init__(self, detector: Any) -> None:
        self._detector = detector

    def probability(self, frame: Audio) -> float:
        """Return 1 where a 20 ms frame holds speech, else 0; ValueError for another length."""
        if len(frame) != FRAME or frame.rate != RATE:
            raise ValueError(f"a frame has {FRAME} samples at {RATE} Hz, not {len(frame)} at {frame.rate} Hz")
        return float(self._detector.is_speech(frame.to_bytes(), RATE))


def missing(settings: Settings) -> str | None:  # noqa: ARG001 - every engine's is asked with its settings
    """Return what installs the package where it is absent."""
    return lacking("webrtcvad")


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[WebrtcVad]:  # noqa: A001 - the seam's name for it
    """Open a detector."""
    import webrtcvad

    yield WebrtcVad(webrtcvad.Vad(settings.mode))
