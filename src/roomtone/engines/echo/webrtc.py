"""WebRTC's echo canceller (AEC3) for what is listened to; the echo gate for whether somebody speaks.

The canceller takes 30 dB and more of Roomtone's own voice off the microphone, for the recogniser's sake. It also
takes the first 50 to 100 ms off a person who breaks in, so the gate, on the raw microphone, decides when to duck.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np

from roomtone.core.echo_gate import EchoGate, GateSettings
from roomtone.core.sound import HOP, RATE, Audio
from roomtone.engines import EngineSettings, lacking
from roomtone.engines.echo import EchoFrame


class Settings(EngineSettings):
    """``evidence`` and ``delay_ms`` as in the gate; the canceller finds the delay's remainder by itself."""

    evidence: float = GateSettings().evidence
    delay_ms: int = 0


def missing(settings: Settings) -> str | None:  # noqa: ARG001
    """Return what installs the canceller, or None."""
    return lacking("livekit", "echo")


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Webrtc]:  # noqa: A001
    """Open a canceller and a gate that have heard nothing yet."""
    from livekit import rtc

    gate = EchoGate(GateSettings(settings.evidence, delay_s=settings.delay_ms / 1000))
    yield Webrtc(rtc, gate)


class Webrtc:
    """An ``Echo`` whose ``near`` is the microphone less Roomtone's own voice."""

    TAIL = 100
    """Frames after the last sound in which the canceller still works; then the microphone passes untouched."""

    def __init__(self, rtc: Any, gate: EchoGate) -> None:
        self._rtc = rtc
        self._gate = gate
        # Noise suppression brings nothing to detection and colours what the recogniser gets; gain is set elsewhere.
        self._canceller = rtc.AudioProcessingModule(echo_cancellation=True, high_pass_filter=True)
        self._silent = self.TAIL

    def process(self, near: Audio, far: Audio) -> EchoFrame:
        """Cancel and judge 10 ms. Raises ValueError for frames of another length than 160 samples."""
        if len(near) != HOP or len(far) != HOP:
            raise ValueError(f"echo frames have {HOP} samples, not {len(near)} and {len(far)}")
        verdict = self._gate.feed(near.samples, far.samples)
        self._silent = 0 if verdict.playing else self._silent + 1
        cleaned = self._cancel(near, far) if self._silent < self.TAIL else near
        return EchoFrame(cleaned, verdict.person, verdict.playing)

    def rest(self, near: Audio) -> bool:
        """Pass a block over while nothing is played; only the room's noise is followed."""
        if self._silent < self.TAIL or not self._gate.rest(near.samples):
            return False
        self._silent += len(near) // HOP
        return True

    def relearn(self) -> None:
        """Learn the echo path again; the canceller follows it at all times."""
        self._gate.relearn()

    def _cancel(self, near: Audio, far: Audio) -> Audio:
        played = self._rtc.AudioFrame(far.to_bytes(), RATE, 1, HOP)
        heard = self._rtc.AudioFrame(near.to_bytes(), RATE, 1, HOP)
        self._canceller.process_reverse_stream(played)
        self._canceller.set_stream_delay_ms(round(self._gate.delay_s * 1000))
        self._canceller.process_stream(heard)
        return Audio(np.array(heard.data, np.int16))
