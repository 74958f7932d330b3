"""A simulated evening: 200 turns on a clock that does not wait, and no more memory held at its end than early on."""

from __future__ import annotations

import gc
import sys
from itertools import cycle, islice
from pathlib import Path

import pytest

from conftest import Run
from rooms import room, scripted, somebody_speaks
from roomtone.core.dialog import Ended
from roomtone.mind.sentences import Skills
from roomtone.rehearsal import Rehearsal

TURNS = 200
SETTLED = 120
"""Turns after which every cache is full: each thing that can be asked has been asked."""

BLOCKS_A_TURN = 25
"""Python objects, more or less, that a turn may leave behind: bounded logs of the last turns are still filling."""


def held() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def forget(rehearsal: Rehearsal) -> None:
    """Drop what the rehearsal, not the room, keeps of an evening."""
    rehearsal.turns.clear()
    rehearsal._returned = 0
    for tape in (rehearsal.device._tape, rehearsal.device._far_tape):
        tape._blocks.clear()


@pytest.mark.long
def test_an_evening_of_200_turns_answers_each_and_holds_no_more_memory(run: Run[None], tmp_path: Path) -> None:
    skills = Skills.load()
    texts = [text for _, text in skills.samples() if not skills.is_backchannel(text)]
    asked = list(islice(cycle(texts[:: len(texts) // SETTLED + 1]), TURNS))

    async def scene() -> None:
        speech = await somebody_speaks("the kitchen lights")
        turns: list[tuple[str, Ended]] = []
        async with room(scripted(*asked), tmp_path) as rehearsal:
            early = 0
            for _ in asked:
                rehearsal.device.visit(speech)
                turns += [(turn.heard, turn.ended) for turn in await rehearsal.at_rest() if turn.heard]
                forget(rehearsal)
                if len(turns) == SETTLED:
                    early = held()
            late = held()
        assert [heard for heard, _ in turns] == asked
        assert {ended for _, ended in turns} <= {Ended.COMPLETED, Ended.DISMISSED}
        assert late - early < BLOCKS_A_TURN * (TURNS - SETTLED)

    run(scene())
