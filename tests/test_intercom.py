"""Somebody says something to another room, and it is heard there, as it was said."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from small_house import furnished, small_house
from roomtone.core.dialog import Ended


def test_a_text_is_said_in_the_room_it_is_for(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=("tell the kitchen that dinner is Late",)) as house:
            [asked] = await house.speaks("bedroom")
            [told] = await house.rests("kitchen")
            assert asked.said == "Said in the kitchen."
            assert (told.said, told.source) == ("From the bedroom: dinner is Late", "hub")

    run(main())


def test_a_message_is_carried_as_it_was_said(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        texts = ("send a message to the kitchen", "how long does the pasta take")
        async with small_house(tmp_path, kitchen=(), bedroom=texts) as house:
            [asked] = await house.speaks("bedroom")
            assert asked.said == "Go ahead."
            [message] = await house.speaks("bedroom")
            assert (message.said, message.heard) == ("Said in the kitchen.", "")
            before = len(house.rooms["kitchen"].device.played)
            [told] = await house.rests("kitchen")
            assert (told.said, told.spoken) == ("From the bedroom.", "From the bedroom.")
            assert before >= 0

    run(main())
