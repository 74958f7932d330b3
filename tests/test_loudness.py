"""The volume that a household set is there again after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room, scripted
from roomtone import loudness
from roomtone.core.machine import Mode
from roomtone.core.signals import VolumeTurned
from roomtone.flow import beside
from roomtone.rehearsal import Rehearsal


def keeping(rehearsal: Rehearsal) -> Any:
    opened = rehearsal.room
    rests = lambda: opened.conversation.state.mode is Mode.IDLE  # noqa: E731
    return beside(loudness.keep(opened.device.loudspeaker, opened.store, rests), "volume")


def test_what_was_made_quieter_is_quieter_after_a_restart(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with room(scripted(), tmp_path) as rehearsal, keeping(rehearsal):
            await asyncio.sleep(1)
            rehearsal.room.conversation.post(VolumeTurned(-3))
            await asyncio.sleep(3 * loudness.LOOK_S)
            quieter = rehearsal.room.device.loudspeaker.volume
            assert quieter < 1
        async with room(scripted(), tmp_path) as rehearsal, keeping(rehearsal):
            assert rehearsal.room.device.loudspeaker.volume == 1
            await asyncio.sleep(0.1)
            assert rehearsal.room.device.loudspeaker.volume == quieter

    run(main())


def test_while_something_rings_nothing_is_kept(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            loudspeaker, store = rehearsal.room.device.loudspeaker, rehearsal.room.store
            async with beside(loudness.keep(loudspeaker, store, lambda: False), "volume"):
                await asyncio.sleep(0.1)
                loudspeaker.set_volume(0.5)
                await asyncio.sleep(5 * loudness.LOOK_S)
                assert await store.kept(loudness.VOLUME) is None

    run(main())


@pytest.mark.parametrize("rubbish", ["loud", 0, -1, 7, [1]])
def test_what_cannot_be_a_volume_is_left_alone(run: Run[None], tmp_path: Path, rubbish: Any) -> None:
    async def main() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            await rehearsal.room.store.keep(loudness.VOLUME, rubbish)
            async with keeping(rehearsal):
                await asyncio.sleep(0.1)
                assert rehearsal.room.device.loudspeaker.volume == 1

    run(main())
