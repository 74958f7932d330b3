"""A conversation through a real sound card's path: PortAudio, a virtual card, and the loudspeaker's own echo."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Run
from roomtone.app import Room, open_room
from roomtone.core.dialog import Ended, Turn
from roomtone.core.sound import RATE, Audio
from roomtone.engines.audio import _line
from roomtone.engines.stt import Hints, pocketsphinx
from roomtone.flow import Watcher, worker
from roomtone.settings import Settings
from roomtone.utterance import Utterance
from sound_card import Server
from speech import said

CARD = {"engine": "sounddevice", "input": "roommic", "output": "roomspk"}
SETTINGS = Settings.model_validate({"audio": CARD, "listen": {"mode": "open"}})
BOUND_S = 60.0


async def next_turn(events: Watcher, seconds: float = BOUND_S) -> Turn | None:
    try:
        async with asyncio.timeout(seconds):
            turn: Turn = (await anext(events)).data.turn
            return turn
    except TimeoutError:
        return None


async def first_sound(room: Room) -> None:
    with room.feed.watch("turn.first_sound") as events:
        async with asyncio.timeout(BOUND_S):
            await anext(events)


@pytest.mark.hardware
def test_a_question_is_answered_and_the_answer_interrupted(
    run_in_real_time: Run[Any], server: Server, tmp_path: Path
) -> None:
    async def main() -> None:
        question = await said("what can you do", "en-us+m3")
        interruption = await said("what time is it", "en-us+m3")
        async with open_room(SETTINGS, tmp_path) as room:
            with worker("visitor") as visitor, room.feed.watch("turn.ended") as ended:

                async def says(sound: Audio) -> None:
                    await visitor.call(server.feed, sound)

                async with asyncio.TaskGroup() as group:
                    group.create_task(says(question))
                    await first_sound(room)
                    await asyncio.sleep(1.5)  # into the reply
                    # On a busy machine the virtual card drops sound: who is not heard says it again.
                    for _ in range(3):
                        await says(interruption)
                        if (first := await next_turn(ended, 2.5)) is not None:
                            break
                second = await next_turn(ended)
        assert first is not None
        assert second is not None
        assert (first.heard, first.ended) == ("what can you do", Ended.INTERRUPTED)
        assert 0 < len(first.spoken) < len(first.said)
        # In real time every run sounds a little different: which command was heard is for the rehearsed tests.
        assert (second.answered_by, second.ended) == ("skill", Ended.COMPLETED)
        assert second.spoken == second.said

    run_in_real_time(main())


@pytest.mark.hardware
@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_on_a_card_of_another_rate_the_answer_that_leaves_the_loudspeaker_can_be_recognised(
    run_in_real_time: Run[Any], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rate: int
) -> None:
    monkeypatch.setattr(_line.Kind, "rate", lambda *_: rate)

    async def main() -> None:
        question = await said("set a timer for nine minutes", "en-us+m3")
        async with open_room(SETTINGS, tmp_path) as room:
            with worker("visitor") as visitor, room.feed.watch("turn.ended") as ended, server.recording() as path:
                await visitor.call(server.feed, question)
                turn = await next_turn(ended)
                assert turn is not None
                await asyncio.sleep(0.5)  # what has left the loudspeaker is still on its way to the file
        assert (turn.heard, turn.spoken) == ("set a timer for nine minutes", "Nine minutes, starting now.")
        assert await recognised(path.read_bytes()) == "nine minutes starting now"

    run_in_real_time(main())


async def recognised(pcm: bytes) -> str:
    """Recognise a recording of the loudspeaker by what else it might have said."""
    grammar = (
        "#JSGF V1.0;\ngrammar answers;\npublic <answer> = (one | two | five | seven | nine | twenty) minutes "
        "(starting now | left on your timer) | your timer is done | what can you do;\n"
    )
    utterance = Utterance(0.0)
    recording = Audio.from_bytes(pcm[: len(pcm) // 2 * 2])
    loud = np.flatnonzero(np.abs(recording.samples) > 300)
    utterance.add(recording.cut(max(0, int(loud[0]) - RATE // 3), int(loud[-1]) + RATE // 3))
    utterance.end(0.0, 0.0)
    async with pocketsphinx.open(pocketsphinx.Settings()) as engine:
        finals = [one async for one in engine.transcribe(aiter(utterance), Hints(grammar=grammar)) if one.final]
    return finals[-1].text
