"""How quickly the room is somebody else: from the wish to a word of the new persona, and to its being spoken to.

Measured at real-time pace with the default engines, on personas that are warm, as those that a button or a schedule
can call always are.
"""

from __future__ import annotations

import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from roomtone import engines
from roomtone.bench import Figure, p
from roomtone.core.dialog import Source
from roomtone.core.signals import Prompt, Switch
from roomtone.personas.cast import warm
from roomtone.rehearsal import Rehearsal, rehearsing
from roomtone.settings import Settings

SWITCHES = 100


async def measure() -> list[Figure]:
    """Switch through all personas again and again; each time let one speak and the recogniser expect its words."""
    wav = ("wav", engines.load("audio", "wav").Settings())
    with tempfile.TemporaryDirectory() as folder:
        async with rehearsing(Settings(), Path(folder), wav) as rehearsal:
            cast = rehearsal.room.parts.cast
            everyone = [persona.id for persona in await cast.all()]
            await cast.warm(everyone)
            took = [await _switch(rehearsal, persona) for persona in islice(cycle(everyone), SWITCHES)]
    return [
        Figure("persona_swap_ms_p50", p(50, took), "ms", "", len(took)),
        Figure("persona_swap_ms_p99", p(99, took), "ms", "<= 50", len(took)),
    ]


async def _switch(rehearsal: Rehearsal, persona: str) -> float:
    """Ask for a persona and a word of it; return the milliseconds until it speaks and can be spoken to."""
    room = rehearsal.room
    with room.feed.watch("turn.first_sound") as sounds, room.feed.watch("turn.ended") as ended:
        began = time.perf_counter()
        room.conversation.post(Switch(persona, Source.BUTTON, "bench"))
        room.conversation.post(Prompt("Yes.", Source.CLI, verbatim=True))
        await anext(sounds)
        speaker = room.conversation.speaker
        await warm(room.parts.stt, speaker.hints)
        took = (time.perf_counter() - began) * 1000
        assert speaker.persona.id == persona
        await anext(ended)
    return took
