"""The hub carries words to rooms, and tells where they were said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from roomtone.core.recorded import pieces
from roomtone.core.wire import REQUEST, Announce, Presence, Reply, Say, write
from roomtone.flow import beside
from roomtone.settings import Hub
from small_house import SmallHouse, small_house

SOUND = pieces("m1", b"OggS and so on", 1.0)[0]


async def asks(house: SmallHouse, device: str, **request: Any) -> Reply:
    """Let a device ask the hub to announce something."""
    return await house.hub.announcements.announce(Announce(**request), device)


def says_of(reply: Reply) -> tuple[list[str], list[list[str]]]:
    return reply.data["rooms"], reply.data["missed"]


def test_the_house_itself_announces_without_a_sender(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), office=()) as house:
            assert says_of(await house.hub.announce(text="Dinner.")) == (["kitchen", "office"], [])
            assert says_of(await house.hub.announce(text="Tea.", to="kitchen")) == (["kitchen"], [])
            assert [turn.said for turn in await house.rests("kitchen")] == ["Dinner.", "Tea."]
            assert [turn.said for turn in await house.rests("office")] == ["Dinner."]

    run(main())


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ({"text": "Dinner.", "to": "attic"}, "DEVICE_NOT_FOUND"),
        ({"text": " "}, "PAYLOAD_ERROR"),
        ({"audio": "never-came"}, "PAYLOAD_ERROR"),
        ({"text": "Dinner.", "to": "kitchen"}, "HOUSE_ERROR"),
    ],
)
def test_what_cannot_be_announced_is_refused_with_a_code(
    run: Run[None], tmp_path: Path, request_: dict[str, Any], code: str
) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=()) as house:
            reply = await asks(house, "kitchen-1", **request_)
            assert (reply.ok, reply.code) == (False, code)
            assert reply.message

    run(main())


def test_the_same_request_is_said_once_however_often_it_comes(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), office=()) as house:
            request = Announce(text="Dinner.", to="kitchen")
            for _ in range(3):
                topic = house.hub.link.topics.device("office-1", "request")
                await house.link("office").publish(topic, request)
            first = await house.hub.announcements.announce(request, "office-1")
            assert says_of(first) == (["kitchen"], [])
            assert [turn.said for turn in await house.rests("kitchen")] == ["From the office: Dinner."]

    run(main())


def test_of_two_devices_in_a_room_one_speaks(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            small_house(tmp_path, kitchen=(), office=()) as house,
            a_device(house, "a-kitchen", room="kitchen"),
        ):
            reply = await asks(house, "office-1", text="Dinner.")
            assert says_of(reply)[0] == ["kitchen"]
            assert len(house.wire.payloads("kitchen-1/command")) == len(house.wire.payloads("/command")) == 1

    run(main())


def test_a_device_that_cannot_play_a_message_gets_none(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, office=()) as house, a_device(house, "old-1", "announce", room="attic"):
            await house.link("office").publish(house.hub.link.topics.device("office-1", "audio"), SOUND)
            reply = await asks(house, "office-1", audio="m1")
            assert says_of(reply) == ([], [["attic", "UNKNOWN_COMMAND"]])
            assert len(house.wire.payloads("/audio")) == 1

    run(main())


def test_a_device_that_does_not_answer_counts_as_off(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            small_house(tmp_path, kitchen=(), office=()) as house,
            a_device(house, "mute-1", "announce", room="attic"),
        ):
            assert says_of(await asks(house, "office-1", text="Dinner.")) == (
                ["kitchen"],
                [["attic", "DEVICE_OFFLINE"]],
            )

    run(main())


def test_nobody_can_announce_what_another_has_recorded(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), office=()) as house:
            await house.link("office").publish(house.hub.link.topics.device("office-1", "audio"), SOUND)
            assert (await asks(house, "kitchen-1", audio="m1")).code == "PAYLOAD_ERROR"

    run(main())


def test_who_has_the_persona_speaks_as_it(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=()) as house:
            await house.hub.announce(text="Dinner.", persona="chef")
            await house.hub.announce(text="Tea.", persona="pirate")
            [chef, pirate] = [Say.model_validate_json(payload) for payload in house.wire.payloads("/command")]
            assert (chef.persona, pirate.persona) == ("chef", None)

    run(main())


@asynccontextmanager
async def a_device(house: SmallHouse, id_: str, *can: str, room: str) -> AsyncIterator[None]:
    """Let a device be there that says what it can do, and answers nothing."""
    presence = Presence(id=id_, online=True, room=room, capabilities=can)
    topic = house.hub.link.topics.device(id_, "presence")
    link = house.wire.link_of(Hub(), id_, lambda: presence, topic)
    async with beside(link.run(), id_):
        await asyncio.sleep(0.1)
        yield


def test_a_request_survives_the_wire() -> None:
    request = Announce(to="kitchen", text="Dinner.", audio=None, persona="chef", urgent=True, answers=False)
    assert REQUEST.validate_json(write(request)) == request
