"""How long it takes to find what was said before a turn, and to make a prompt of it: somebody waits for both.

Measured in a session of 2,000 messages, alone in a store and in one of 100,000, at its last messages.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from roomtone.bench import Figure, p
from roomtone.core.dialog import Message, Role
from roomtone.core.persona import Persona
from roomtone.database import Statement
from roomtone.mind.context import build
from roomtone.mind.phrases import Phrases
from roomtone.mind.prompt import Surroundings
from roomtone.past import past
from roomtone.personas import Library
from roomtone.shipped import shipped
from roomtone.store import FILE_NAME, Store, open_store

MESSAGES = 2000
"""In a session."""

SESSIONS = 50

SAMPLES = 200

TEXT = "The dough rises in an hour or two, and then it is folded again. " * 3

FACTS = ("the cat is called Minka", "Anna bakes on Saturdays", "the oven is ten degrees too hot")
PASSAGES = ("A dough of strong flour takes seventy percent of water. " * 8, "Salt slows the yeast. " * 20)
BEGAN = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)


async def measure() -> list[Figure]:
    """Build a prompt again and again; return how long each took, with its messages read from the store."""
    phrases, persona = Phrases.load(), Library([shipped("personas")]).load("chef")
    figures = []
    for name, sessions in (("context_ms", 1), ("context_large_store_ms", SESSIONS)):
        with tempfile.TemporaryDirectory() as folder:
            async with open_store(Path(folder) / FILE_NAME) as store:
                for session in range(sessions):
                    await store.write(*_said(str(session), persona.id))
                took = [await _one(store, persona, phrases, sample) for sample in range(SAMPLES)]
        figures.append(Figure(f"{name}_p50", p(50, took), "ms", "", len(took)))
        figures.append(Figure(f"{name}_p95", p(95, took), "ms", "<= 20", len(took)))
    return figures


async def _one(store: Store, persona: Persona, phrases: Phrases, sample: int) -> float:
    tip = f"0/{MESSAGES - 1 - sample}"
    where = Surroundings("kitchen", BEGAN + timedelta(minutes=sample), ("Anna", "Ben"), {"coffee": "black"})
    began = time.perf_counter()
    before = await past(store, [tip], whose={persona.id})
    prompt = await build(persona, phrases, where, before, "And now?", facts=FACTS, passages=PASSAGES)
    took = (time.perf_counter() - began) * 1000
    assert len(prompt.messages) >= 10, "a prompt without its conversation would be no measure"
    return took


def _said(session: str, persona: str) -> Iterator[Statement]:
    """Yield what keeps a session, each message behind the one before it."""
    for number in range(MESSAGES):
        text = TEXT[: 20 + number % 9 * 20]
        role = (Role.PERSON, Role.ROOMTONE)[number % 2]
        data = {"trace": f"{session}/{number // 2}"}
        said = Message(id=f"{session}/{number}", session=session, role=role, text=text, persona=persona, data=data)
        row = (said.id, session, role, text, said.at.isoformat(), persona, json.dumps(data))
        yield "INSERT INTO messages VALUES (?,?,?,?,?,?,?)", row
        if number:
            yield "INSERT INTO edges VALUES (?,?)", (said.id, f"{session}/{number - 1}")
