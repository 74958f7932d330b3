"""Whatever a skill says can be cut off: what was heard of it is known, and what was asked for stays done."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room, scripted, somebody_speaks, until
from roomtone.core.dialog import Ended, Turn
from roomtone.core.machine import Mode
from roomtone.mind.sentences import Skills
from roomtone.rehearsal import Rehearsal

SKILLS = Skills.load()
WORD_S = 3.0
"""So slow a voice that even an answer of one word can be interrupted."""


def speaking_skills() -> list[str]:
    """Return the first example of every skill that answers with words and does not just fall silent."""
    first: dict[str, str] = {}
    for intent, text in SKILLS.samples():
        match = SKILLS.recognise(text)
        assert match is not None, intent
        silent = match.dismisses or match.backchannel or match.agrees is not None
        if not silent:
            first.setdefault(match.skill, text)
    return list(first.values())


async def state(rehearsal: Rehearsal) -> list[Any]:
    """Return what the household has to show for what it was asked."""
    store = rehearsal.room.store
    timers = [(timer.kind, timer.name, timer.seconds, timer.repeat, timer.paused_s) for timer in await store.timers()]
    items = [(item.list, item.text, item.removed is None) for item in await store.items()]
    return [timers, items, (await store.stopwatch()).started is None, rehearsal.device.loudspeaker.volume]


async def cut_off(rehearsal: Rehearsal) -> tuple[list[Any], list[Turn]]:
    """Ask, and speak into the answer's second word, or its only one; return the state before, and the turns."""
    rehearsal.device.visit(await somebody_speaks())
    speaking = await until(rehearsal, "turn.first_sound")
    done = await state(rehearsal)
    words = len(speaking.data.said.split())
    await asyncio.sleep(0.2 * WORD_S + (WORD_S if words > 1 else 0.0))
    rehearsal.device.visit(await somebody_speaks())
    return done, await rehearsal.at_rest()


def test_every_skill_that_speaks_is_tried() -> None:
    tried = {match.skill for text in speaking_skills() if (match := SKILLS.recognise(text))}
    assert tried == {skill.name for skill in SKILLS.skills} - {"stop", "backchannel", "consent"}


@pytest.mark.parametrize("asked", speaking_skills())
@pytest.mark.parametrize("then", ["stop", "what time is it"])
def test_an_answer_that_is_cut_off_was_heard_so_far_and_its_deed_is_done(
    run: Run[None], tmp_path: Path, asked: str, then: str
) -> None:
    async def scenario() -> None:
        match = SKILLS.recognise(asked)
        assert match is not None
        async with room(scripted(asked, then, tts={"word_s": WORD_S}), tmp_path) as rehearsal:
            done, (first, second) = await cut_off(rehearsal)
            assert (first.heard, first.intent, first.ended) == (asked, match.intent, Ended.INTERRUPTED)
            assert first.said.startswith(first.spoken)
            assert len(first.spoken) < len(first.said)
            assert await state(rehearsal) == done
            after = ("", Ended.DISMISSED) if then == "stop" else (second.said, Ended.COMPLETED)
            assert (second.heard, second.spoken, second.ended) == (then, *after)
            stored = await rehearsal.room.store.history()
            assert [turn.spoken for turn in stored] == [first.spoken, second.spoken]
            await asyncio.sleep(7)
            assert rehearsal.room.conversation.state.mode is Mode.IDLE

    run(scenario())
