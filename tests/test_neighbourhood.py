"""The other rooms as a room knows them: by name, on or off, and through the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from house_wire import Wire, WireLink
from roomtone.clock import elapsed, utc_now
from roomtone.core.dialog import Timer
from roomtone.core.errors import DeviceNotFound, DeviceOffline, HandoffRefused, HouseError, HubGone, PayloadError
from roomtone.core.wire import (
    REQUEST,
    Announce,
    CancelTimers,
    Follow,
    HandOff,
    Heard,
    Presence,
    Reply,
    Request,
    Ringing,
    Ringings,
    Rooms,
    Standing,
    Topics,
    read,
    write,
)
from roomtone.edges.mqtt import Identity
from roomtone.edges.neighbourhood import KEPT, Neighbourhood, matching, plain
from roomtone.flow import beside
from roomtone.link import Inbound
from roomtone.mind.house import Neighbour
from roomtone.settings import Device, Hub
from roomtone.store import Store, open_store

TOPICS = Topics("home")
ROOMS = [
    Neighbour("bed-1", "bedroom", "Night light"),
    Neighbour("living-1", "living room", "Big one"),
    Neighbour("bath-up", "upstairs bathroom"),
    Neighbour("office_1", "office"),
]


class StandInHub:
    """A hub that answers what it is told to, and remembers what it was asked."""

    def __init__(self, wire: Wire) -> None:
        self.asked: list[Request] = []
        self.answers: dict[str, Reply] = {}
        self.silent = False
        self.link = wire.link_of(Hub(), "hub", lambda: Presence(id="hub", online=True), TOPICS.hub())
        self.link.on(TOPICS.device("+", "request"), self._take)

    async def _take(self, message: Inbound) -> None:
        request: Request = read(REQUEST, message.payload)
        self.asked.append(request)
        if not self.silent:
            reply = self.answers.get(request.ask, Reply(of=""))
            await self.link.answer(message, reply.model_copy(update={"of": request.id}), "")


@asynccontextmanager
async def kitchen(
    tmp_path: Path, wire: Wire, *, hub: bool = True
) -> AsyncIterator[tuple[Neighbourhood, WireLink, StandInHub, Store]]:
    """Open a kitchen's neighbourhood, with a conversation of the epoch 2."""
    identity, stand_in = Identity(Device(id="kitchen-1", name="Kitchen", room="kitchen")), StandInHub(wire)
    link = wire.link_of(Hub(), "kitchen-1", identity.presence, TOPICS.device("kitchen-1", "presence"))
    async with open_store(tmp_path / "store.db") as store:
        house = Neighbourhood(identity, link, store, lambda: ("talk", 2))
        await house.recall()
        async with beside(link.run(), "link"):
            if not hub:
                await asyncio.sleep(0.1)
                yield house, link, stand_in, store
                return
            async with beside(stand_in.link.run(), "hub"):
                await asyncio.sleep(0.1)
                yield house, link, stand_in, store


async def appears(wire: Wire, id_: str, room: str | None, *, online: bool = True, name: str = "") -> None:
    """Let another device say that it is there, or gone."""
    presence = Presence(id=id_, online=online, room=room, name=name)
    wire.publish(TOPICS.device(id_, "presence"), write(presence), retain=True)
    await asyncio.sleep(0.1)


# ---------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("spoken", "ids"),
    [
        ("bedroom", ["bed-1"]),
        ("the Bedroom", ["bed-1"]),
        ("bed", ["bed-1"]),
        ("bed room", ["bed-1"]),
        ("my bedroom", ["bed-1"]),
        ("living room", ["living-1"]),
        ("living_room", ["living-1"]),
        ("the livingroom", ["living-1"]),
        ("living", ["living-1"]),
        ("night light", ["bed-1"]),
        ("bath up", ["bath-up"]),
        ("bathroom", ["bath-up"]),
        ("office 1", ["office_1"]),
        ("garage", []),
        ("the", []),
        ("", []),
        ("!?", []),
    ],
)
def test_a_room_is_found_by_what_people_call_it(spoken: str, ids: list[str]) -> None:
    assert [each.id for each in matching(spoken, ROOMS)] == ids


@given(st.text(max_size=40))
def test_whatever_is_said_is_a_room_or_none(spoken: str) -> None:
    assert all(each in ROOMS for each in matching(spoken, ROOMS))
    assert plain(plain(spoken)) in (plain(spoken), plain(" ".join(plain(spoken).split()[1:])))


def test_of_two_devices_in_a_room_the_one_that_is_on_is_meant(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(tmp_path, wire) as (house, *_):
            await appears(wire, "bed-old", "bedroom", online=False)
            await appears(wire, "bed-new", "bedroom")
            assert house.find("bedroom").id == "bed-new"

    run(main())


def test_a_name_that_two_rooms_begin_with_is_asked_back(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(tmp_path, wire) as (house, *_):
            await appears(wire, "one", "bedroom")
            await appears(wire, "two", "bedsit")
            with pytest.raises(DeviceNotFound, match="bedroom or bedsit"):
                house.find("bed")
            await appears(wire, "two", "bedsit", online=False)
            assert house.find("bed").id == "one"

    run(main())


def test_this_room_is_no_other_room(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(tmp_path, wire) as (house, *_):
            with pytest.raises(DeviceNotFound) as refused:
                house.find("the kitchen")
            assert refused.value.details["why"] == "SAME_DEVICE"
            assert not house.rooms()

    run(main())


# --------------------------------------------------------------------------------------------- presence


def test_rooms_come_and_go(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(tmp_path, wire) as (house, *_):
            with pytest.raises(DeviceNotFound, match="no other room was heard of"):
                house.find("bedroom")
            await appears(wire, "bed-1", "bedroom")
            assert house.find("bedroom").online
            assert house.others_online()
            await appears(wire, "bed-1", None, online=False)
            assert not house.find("bedroom").online
            assert not house.others_online()
            wire.publish(TOPICS.device("bed-1", "presence"), b"", retain=True)
            await asyncio.sleep(0.1)
            with pytest.raises(DeviceNotFound):
                house.find("bedroom")

    run(main())


def test_nobody_can_be_reached_while_the_link_is_down(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(tmp_path, wire) as (house, link, *_):
            await appears(wire, "bed-1", "bedroom")
            link.cut()
            assert not house.find("bedroom").online
            with pytest.raises(HouseError, match="out of reach"):
                await house.hand_off(house.find("bedroom"))
            assert not await house.timers()

    run(main())


def test_neighbours_are_known_by_name_after_a_restart_without_a_broker(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path, wire := Wire()):
            await appears(wire, "bed-1", "bedroom", name="Night light")
        async with kitchen(tmp_path, Wire(), hub=False) as (house, link, *_):
            link.cut()
            found = house.find("night light")
            assert (found.id, found.room, found.online) == ("bed-1", "bedroom", False)

    run(main())


def test_who_comes_and_goes_costs_no_writes(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(tmp_path, wire) as (*_, store):
            await appears(wire, "bed-1", "bedroom")
            await store.keep(KEPT, "as it is")
            for _ in range(5):
                await appears(wire, "bed-1", "bedroom", online=False)
                await appears(wire, "bed-1", "bedroom")
            assert await store.kept(KEPT) == "as it is"
            await appears(wire, "bed-1", "nursery")
            assert (await store.kept(KEPT))[0]["room"] == "nursery"

    run(main())


@pytest.mark.parametrize("kept", ["nonsense", [{"id": 1}], [7], {"a": 1}])
def test_what_was_kept_wrongly_costs_nothing_else(run: Run[None], tmp_path: Path, kept: object) -> None:
    async def main() -> None:
        async with open_store(tmp_path / "store.db") as store:
            await store.keep(KEPT, kept)
        wire = Wire()
        async with kitchen(tmp_path, wire) as (house, *_):
            assert not house.rooms()
            await appears(wire, "bed-1", "bedroom")
            assert house.find("bedroom").online

    run(main())


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff",
        b"[1]",
        b'{"id": "bed-1"}',
        b'{"id": "attic", "online": true, "room": "attic"}',
        b'{"id": "bed-1", "online": true, "room": "bedroom", "v": 9}',
        b'{"id": "bed-1", "online": true, "room": "%s"}' % (b"x" * 5_000_000),
    ],
)
def test_a_presence_that_cannot_be_is_not_taken_in(run: Run[None], tmp_path: Path, payload: bytes) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(tmp_path, wire) as (house, *_):
            await appears(wire, "office", "office")
            wire.publish(TOPICS.device("bed-1", "presence"), payload, retain=True)
            await asyncio.sleep(0.1)
            assert [each.room for each in house.rooms()] == ["office"]

    run(main())


# ------------------------------------------------------------------------------------------------- hub


def test_a_conversation_is_offered_with_its_epoch(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        wire = Wire()
        async with kitchen(tmp_path, wire) as (house, _, hub, _):
            await appears(wire, "bed-1", "bedroom")
            await house.hand_off(house.find("bedroom"), why="come with me")
            [asked] = hub.asked
            assert isinstance(asked, HandOff)
            assert (asked.to, asked.session, asked.epoch, asked.why) == ("bed-1", "talk", 2, "come with me")

    run(main())


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("DEVICE_OFFLINE", DeviceOffline),
        ("DEVICE_NOT_FOUND", DeviceNotFound),
        ("DEVICE_MUTED", HandoffRefused),
        ("DEVICE_BUSY", HandoffRefused),
        ("SOMETHING_NEW", HandoffRefused),
    ],
)
def test_a_refusal_is_the_error_of_its_code(
    run: Run[None], tmp_path: Path, code: str, kind: type[HouseError]
) -> None:
    async def main() -> None:
        async with kitchen(tmp_path, Wire()) as (house, _, hub, _):
            hub.answers["handoff"] = Reply(of="", ok=False, code=code, message="not now")
            with pytest.raises(kind, match="not now") as refused:
                await house.hand_off(Neighbour("bed-1", "bedroom"))
            assert refused.value.details["why"] == code

    run(main())


def test_a_hub_that_is_off_is_known_at_once(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path, Wire(), hub=False) as (house, *_):
            began = elapsed()
            with pytest.raises(HubGone, match="roomtone-hub"):
                await house.who_is_where()
            assert elapsed() == began

    run(main())


def test_a_hub_that_says_nothing_costs_no_longer_than_a_person_waits(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path, Wire()) as (house, _, hub, _):
            hub.silent = True
            began = elapsed()
            with pytest.raises(HubGone):
                await house.hand_off(Neighbour("bed-1", "bedroom"))
            assert elapsed() - began == pytest.approx(2, abs=0.1)
            began = elapsed()
            assert not await house.timers()
            assert elapsed() - began == pytest.approx(0.4, abs=0.1)
            assert not await house.follow(30)

    run(main())


def test_who_is_where_is_what_the_hub_knows_of_the_others(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path, Wire()) as (house, _, hub, _):
            rooms = Rooms(
                rooms=(
                    Standing(id="bed-1", room="bedroom", state="speaking", persona="chef", idle_s=3.0, quiet=True),
                    Standing(id="kitchen-1", room="kitchen"),
                )
            )
            hub.answers["where"] = Reply(of="", data=rooms.model_dump(mode="json"))
            [there] = await house.who_is_where()
            assert (there.room, there.state, there.persona, there.quiet) == ("bedroom", "speaking", "chef", True)

    run(main())


def test_an_answer_that_cannot_be_read_is_an_error_for_a_person(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path, Wire()) as (house, _, hub, _):
            hub.answers["where"] = Reply(of="", data={"rooms": [{"room": 7}]})
            with pytest.raises(PayloadError, match="cannot be read"):
                await house.who_is_where()

    run(main())


def test_timers_elsewhere_have_as_much_left_as_there_whatever_their_clock(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path, Wire()) as (house, _, hub, _):
            wrong = utc_now() - timedelta(hours=9)
            late = Ringing(device="b", room="bedroom", timer=Timer(id="l", due=wrong), left_s=300)
            soon = Ringing(device="o", room="office", timer=Timer(id="s", due=wrong), left_s=60)
            own = Ringing(device="kitchen-1", room="kitchen", timer=Timer(id="o", due=wrong), left_s=1)
            data = Ringings(timers=(late, soon, own)).model_dump(mode="json")
            hub.answers["timers"] = Reply(of="", data=data)
            there = await house.timers()
            left = [(each.room, round((each.timer.due - utc_now()).total_seconds())) for each in there]
            assert left == [("office", 60), ("bedroom", 300)]
            await house.cancel_timers(there[:1])
            assert isinstance(hub.asked[-1], CancelTimers)
            assert hub.asked[-1].timers == ("s",)

    run(main())


def test_an_announcement_tells_where_it_was_said(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path, Wire()) as (house, _, hub, _):
            heard = Heard(rooms=("bedroom",), missed=(("office", "DEVICE_OFFLINE"),))
            hub.answers["announce"] = Reply(of="", data=heard.model_dump(mode="json"))
            said = await house.announce("Dinner is ready.", urgent=True)
            assert (said.rooms, said.missed) == (("bedroom",), (("office", "DEVICE_OFFLINE"),))
            [asked] = hub.asked
            assert isinstance(asked, Announce)
            assert (asked.text, asked.to, asked.urgent) == ("Dinner is ready.", "", True)

    run(main())


def test_a_conversation_can_be_called_for(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path, Wire()) as (house, _, hub, _):
            assert await house.follow(20)
            [asked] = hub.asked
            assert isinstance(asked, Follow)
            assert asked.within_s == 20

    run(main())
