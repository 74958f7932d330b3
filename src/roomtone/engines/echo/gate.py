"""The default echo engine: the echo gate, and a suppressor that works by its prediction. It needs numpy alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import Field

from roomtone.core.echo_gate import BANDS, EchoGate, GateSettings
from roomtone.core.echo_suppressor import EchoSuppressor
from roomtone.core.sound import HOP, Audio
from roomtone.engines import EngineSettings
from roomtone.engines.echo import EchoFrame


class Settings(EngineSettings):
    """``evidence``: how much makes a person (more is more cautious).

    ``delay_ms`` and ``gain_db`` (one number for each of the gate's bands) come from a calibration; left out, they
    are learnt from what is played.
    """

    evidence: float = Field(2.0, gt=0, le=20)
    delay_ms: int = Field(0, ge=0, le=600)
    gain_db: tuple[float, ...] | None = Field(None, min_length=BANDS, max_length=BANDS)


def missing(settings: Settings) -> str | None:  # noqa: ARG001
    """Return None: the base install has all it needs."""
    return None


@asynccontextmanager
async def open(settings: Settings) -> AsyncIterator[Gate]:  # noqa: A001
    """Open a gate that has heard nothing yet."""
    yield Gate(EchoGate(GateSettings(settings.evidence, delay_s=settings.delay_ms / 1000, gain_db=settings.gain_db)))


class Gate:
    """An ``Echo`` whose ``near`` is the microphone less Roomtone's own voice, and 10 ms late, while that is heard."""

    def __init__(self, gate: EchoGate) -> None:
        self._gate = gate
        self._suppressor = EchoSuppressor()

    def process(self, near: Audio, far: Audio) -> EchoFrame:
        """Judge and clean 10 ms. Raises ValueError for frames of another length than 160 samples."""
        if len(near) != HOP or len(far) != HOP:
            raise ValueError(f"echo frames have {HOP} samples, not {len(near)} and {len(far)}")
        verdict = self._gate.feed(near.samples, far.samples)
        cleaned = self._suppressor.feed(near.samples, verdict.predicted)
        return EchoFrame(Audio(cleaned), verdict.person, verdict.playing)

    def rest(self, near: Audio) -> bool:
        """Pass a block over while nothing is played; only the room's noise is followed."""
        if self._suppressor.works or not self._gate.rest(near.samples):
            return False
        self._suppressor.feed(near.samples[-HOP:], None)
        return True

    def relearn(self) -> None:
        """Learn the echo path again."""
        self._gate.relearn()
