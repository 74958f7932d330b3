"""A text and a recorded message from room to room, over the real broker and the real hub."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from broker import Broker
from conftest import Run
from rooms import room, scripted, speaks
from roomtone.hub.serve import open_hub
from roomtone.joining import Joined, joined
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings

LONGEST_S = 20.0


def of(broker: Broker, device: str) -> dict[str, Any]:
    return broker.hub(device).model_dump(exclude_none=True)


def furnished(broker: Broker, name: str, *heard: str) -> Settings:
    device = {"id": f"{name}-1", "name": name, "room": name}
    return scripted(*heard, device=device, hub=of(broker, f"{name}-1"))


async def sees(one: Joined, other: str) -> None:
    """Wait until a room knows the hub and another room."""
    async with asyncio.timeout(LONGEST_S):
        while not (  # noqa: ASYNC110  # the broker tells whenever it does
            one.house.hub_online and any(each.online and each.room == other for each in one.house.rooms())
        ):
            await asyncio.sleep(0.05)


async def says(where: Rehearsal) -> str:
    """Wait for what a room says by itself."""
    async with asyncio.timeout(LONGEST_S):
        while (event := await where.next_event()).kind != "turn.ended":
            pass
    return str(event.data.turn.said)


def test_words_and_voices_go_from_room_to_room(run_in_real_time: Run[None], broker: Broker, tmp_path: Path) -> None:
    async def main() -> None:
        texts = ("tell the kitchen that tea is ready", "send a message to the kitchen", "as it was said")
        hub = scripted(hub=of(broker, "hub"), state_dir=tmp_path / "hub")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(open_hub(hub))
            there = await stack.enter_async_context(room(furnished(broker, "kitchen"), tmp_path / "kitchen"))
            here = await stack.enter_async_context(room(furnished(broker, "bedroom", *texts), tmp_path / "bedroom"))
            kitchen = await stack.enter_async_context(joined(there.room))
            bedroom = await stack.enter_async_context(joined(here.room))
            await sees(bedroom, "kitchen")
            await sees(kitchen, "bedroom")
            assert (await speaks(here))[-1].said == "Said in the kitchen."
            assert await says(there) == "From the bedroom: tea is ready"
            assert (await speaks(here))[-1].said == "Go ahead."
            assert (await speaks(here))[-1].said == "Said in the kitchen."
            assert await says(there) == "From the bedroom."
            assert there.room.parts.mouth.loudspeaker.queued > 3 * 16_000

    run_in_real_time(main())
