"""A room for tests: the daemon's own pipeline on a clock that does not wait, and engines that do as they are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from roomtone import engines
from roomtone.core.dialog import Turn
from roomtone.core.sound import Audio
from roomtone.rehearsal import Rehearsal, rehearsing
from roomtone.settings import Settings
from speech import said

HELP = "what can you do"


def scripted(*heard: str, tts: dict[str, Any] | None = None, **sections: Any) -> Settings:
    """Return settings of a room that hears these texts, one an utterance, and hums its answers."""
    stt = {"engine": "script", "texts": heard, **sections.pop("stt", {})}
    listen = {"mode": "open", **sections.pop("listen", {})}
    return Settings.model_validate(
        {
            "stt": stt,
            "tts": {"engine": "tone", **(tts or {})},
            "listen": listen,
            "time_zone": "Europe/Berlin",
            **sections,
        }
    )


@asynccontextmanager
async def room(settings: Settings, state_dir: Path, **audio: Any) -> AsyncIterator[Rehearsal]:
    """Open a room on the ``wav`` device, or on ``sim`` with its settings given."""
    name = "sim" if audio else "wav"
    async with rehearsing(settings, state_dir, (name, engines.load("audio", name).Settings(**audio))) as rehearsal:
        yield rehearsal


async def somebody_speaks(text: str = "some words that are scripted") -> Audio:
    """Return a person's speech; a scripted recogniser takes it for whatever comes next."""
    return await said(text, "en-gb+f3", lead_s=0.0, tail_s=0.0)


async def speaks(rehearsal: Rehearsal, text: str = "some words that are scripted") -> list[Turn]:
    """Let somebody speak, and wait until all has come to rest."""
    rehearsal.device.visit(await somebody_speaks(text))
    return await rehearsal.at_rest()


async def until(rehearsal: Rehearsal, kind: str) -> Any:
    """Wait for an event of a kind and return it."""
    while (event := await rehearsal.next_event()).kind != kind:
        pass
    return event
