"""A recogniser that dies or hangs while somebody speaks: they are answered all the same.

Whisper and pocketsphinx are the real ones, each in its own process; the room is the daemon's own pipeline.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room
from roomtone.core.dialog import Ended, Turn
from roomtone.core.machine import Mode
from roomtone.failover import SttLine
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings
from speech import said

MODELS = Path(__file__).parent / "models"
QUESTION = "what time is it"
VOICE = "en-us+m3"

Harm = Callable[[int], None]
"""What happens to the recogniser's process, by its id."""


@asynccontextmanager
async def room_with_whisper(state_dir: Path, **stt: Any) -> AsyncIterator[Rehearsal]:
    """Open a room whose first recogniser is Whisper because a model lies on the disk."""
    settings = Settings.model_validate(
        {"listen": {"mode": "open"}, "tts": {"engine": "tone"}, "stt": {"models_dir": str(MODELS), **stt}}
    )
    async with room(settings, state_dir) as rehearsal:
        assert [place.name for place in line_of(rehearsal).places] == ["whisper", "pocketsphinx"]
        yield rehearsal


def line_of(rehearsal: Rehearsal) -> SttLine:
    return rehearsal.room.parts.stt


def whisper_pid(rehearsal: Rehearsal) -> int:
    pid: int = line_of(rehearsal).places[0].engine.pid  # type: ignore[attr-defined]
    return pid


async def asks(rehearsal: Rehearsal, during: Harm | None = None, after: Harm | None = None) -> Turn:
    """Let somebody ask; ``during`` befalls the recogniser while they speak, ``after`` once they have ended."""
    pid = whisper_pid(rehearsal) if during or after else 0
    rehearsal.device.visit(await said(QUESTION, VOICE, lead_s=0, tail_s=0))
    if during is not None:
        while (await rehearsal.next_event()).kind != "turn.begun":
            pass
        await asyncio.sleep(0.3)
        during(pid)
    if after is not None:
        while rehearsal.room.conversation.state.mode is not Mode.THINKING:
            await rehearsal.next_event()
        after(pid)
    (turn,) = await rehearsal.at_rest()
    return turn


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)


def answered(turn: Turn) -> bool:
    return (turn.heard, turn.intent, turn.ended, turn.error) == (QUESTION, "clock.time", Ended.COMPLETED, None)


def test_a_recogniser_killed_while_the_person_speaks_costs_them_nothing(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with room_with_whisper(tmp_path) as rehearsal:
            assert answered(await asks(rehearsal, during=kill))
            assert answered(await asks(rehearsal))
            assert line_of(rehearsal).served_by == "whisper", "it was started again"
            assert rehearsal.room.health()["stt"] == "ok"

    run(scene())


@pytest.mark.parametrize(
    ("befalls", "reason"),
    [
        ((stop, kill), "killed, most likely for want of memory"),
        ((stop, None), "did not answer within"),
    ],
    ids=["killed in mid-decode", "hangs"],
)
def test_the_turn_is_answered_by_the_next_recogniser_and_the_one_after_by_the_first_again(
    run: Run[None], tmp_path: Path, befalls: tuple[Harm, Harm | None], reason: str
) -> None:
    failures: list[tuple[str, str]] = []

    async def scene() -> None:
        async with room_with_whisper(tmp_path) as rehearsal:
            with rehearsal.room.feed.watch("engine.failed") as failed:
                assert answered(await asks(rehearsal, *befalls))
                seam, name, error = (await anext(failed)).data
            failures.append((seam, name))
            assert reason in error.message
            assert line_of(rehearsal).served_by == "pocketsphinx"
            assert reason in rehearsal.room.health()["stt"], "until it works again, who asks is told"

            assert answered(await asks(rehearsal))
            assert line_of(rehearsal).served_by == "whisper"
            assert rehearsal.room.health()["stt"] == "ok"

    run(scene())
    assert failures == [("stt", "whisper")]
