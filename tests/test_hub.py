"""The hub with a real broker: who is there, who may have a conversation, and what a restart in between costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker import Broker, broker
from hub_rooms import HubRoom, hub_room, until
from roomtone.control import ask_daemon
from roomtone.core.dialog import Timer
from roomtone.core.errors import RegistrationError, RoomtoneError
from roomtone.core.wire import Adopt, CancelTimers, Follow, HandOff, HouseTimers, Reply, State, Where, write
from roomtone.edges import control
from roomtone.flow import beside
from roomtone.hub.folder import database_path
from roomtone.hub.serve import Hub, open_hub
from roomtone.link import Inbound
from roomtone.settings import Settings

__all__ = ["broker"]


def settings_of(broker: Broker, state_dir: Path) -> Settings:
    return Settings(state_dir=state_dir, hub=broker.hub("hub"))


@asynccontextmanager
async def a_hub(broker: Broker, state_dir: Path) -> AsyncIterator[Hub]:
    async with open_hub(settings_of(broker, state_dir)) as hub:
        await until(lambda: hub.settled, f"the hub is there: {hub.link.health}")
        yield hub


@asynccontextmanager
async def a_house(broker: Broker, state_dir: Path) -> AsyncIterator[tuple[Hub, HubRoom, HubRoom]]:
    """A hub and two rooms that it knows, the kitchen and the study."""
    async with (
        a_hub(broker, state_dir) as hub,
        hub_room(broker.hub("kitchen"), "kitchen") as kitchen,
        hub_room(broker.hub("study"), "study") as study,
    ):
        await until(lambda: all(_known(hub, one.id) for one in (kitchen, study)), "the hub knows both rooms")
        yield hub, kitchen, study


def _known(hub: Hub, id_: str) -> bool:
    device = hub.registry.get(id_)
    return device is not None and bool(device.online) and device.fresh


def test_a_conversation_goes_on_in_another_room_and_its_rest_is_said_there(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with a_house(broker, tmp_path) as (_, kitchen, study):
            session = await kitchen.talk("tell me about the moon", rest="It is far away.")
            reply = await kitchen.hand_off("study")
            assert reply.ok, reply
            await until(lambda: study.said == ["It is far away."], "the study says the rest")
            assert study.has(session)
            assert not kitchen.has(session)
            assert [message.text for message in study.disk.messages[session]] == ["tell me about the moon"]
            assert study.disk.bundles[session].moves[0].source == "kitchen"
            assert kitchen.said == []

    run_in_real_time(scene())


Scene = Any


def in_a_house(run: Any, broker: Broker, state_dir: Path, scene: Scene) -> None:
    async def whole() -> None:
        async with a_house(broker, state_dir) as (hub, kitchen, study):
            await scene(hub, kitchen, study)

    run(whole())


# ------------------------------------------------------------------------------------------- refusals


async def _is(hub: Hub, room: HubRoom, **changes: object) -> None:
    """Change how a room stands, and wait until the hub knows."""
    await room.tell(**changes)
    await until(
        lambda: all(getattr(_state(hub, room), key) == value for key, value in changes.items()), f"{changes} is known"
    )


def _state(hub: Hub, room: HubRoom) -> State:
    device = hub.registry.get(room.id)
    assert device is not None
    return device.state


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"muted": True}, "DEVICE_MUTED"),
        ({"state": "speaking"}, "DEVICE_BUSY"),
        ({"state": "thinking"}, "DEVICE_BUSY"),
        ({"serves": False}, "ENGINE_UNAVAILABLE"),
    ],
)
def test_a_room_that_cannot_take_it_up_is_not_asked(
    run_in_real_time: Any, broker: Broker, tmp_path: Path, how: dict[str, object], code: str
) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        session = await kitchen.talk("hello")
        await _is(hub, study, **how)
        reply = await kitchen.hand_off("study")
        assert (reply.ok, reply.code) == (False, code)
        assert kitchen.has(session)
        assert not study.told

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_no_conversation_moves_to_where_it_is_to_nowhere_or_to_a_room_that_is_off_or_too_old(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        assert (await kitchen.hand_off("study")).code == "SESSION_NOT_FOUND"
        await kitchen.talk("hello")
        assert (await kitchen.hand_off("kitchen")).code == "SAME_DEVICE"
        assert (await kitchen.hand_off("the cellar")).code == "DEVICE_NOT_FOUND"
        async with hub_room(broker.hub("attic"), "attic") as attic:
            await until(lambda: _known(hub, "attic"), "the attic is known")
            attic.capabilities = ()
            await attic.link.publish(attic.topic("presence"), attic.presence(), retain=True)
            device = hub.registry.get
            await until(lambda: device("attic").presence.capabilities == (), "what the attic can do is known")  # type: ignore[union-attr]
            assert (await kitchen.hand_off("attic")).code == "HANDOFF_REFUSED"
            newer = attic.presence().model_copy(update={"v": 2})
            await attic.link.publish(attic.topic("presence"), newer, retain=True)
            await until(lambda: device("attic").newer, "the attic's version is known")  # type: ignore[union-attr]
            assert (await kitchen.hand_off("attic")).code == "NEWER_VERSION"
        await until(lambda: not device("attic").online, "the attic is off")  # type: ignore[union-attr]
        assert (await kitchen.hand_off("attic")).code == "DEVICE_OFFLINE"

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_a_room_that_refuses_it_after_all_leaves_it_where_it_was_and_why_is_said_there(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(_: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        session = await kitchen.talk("hello", rest="And so on.")
        study.hindrance = "DEVICE_MUTED"
        assert (await kitchen.hand_off("study")).ok
        await until(lambda: kitchen.said == ["DEVICE_MUTED", "And so on."], "the kitchen says why and goes on")
        assert kitchen.has(session)
        assert kitchen.epoch(session) == 2
        assert study.said == []

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_a_room_that_does_not_answer_leaves_it_where_it_was(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(_: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        session = await kitchen.talk("hello", rest="And so on.")
        study.deaf_to = {"offer"}
        assert (await kitchen.hand_off("study")).ok
        await until(lambda: kitchen.said == ["DEVICE_OFFLINE", "And so on."], "the kitchen goes on")
        assert kitchen.has(session)

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_a_request_that_comes_again_is_answered_again_and_done_once(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(_: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        session = await kitchen.talk("hello", rest="And so on.")
        request = HandOff(to="study", session=session)
        first = await kitchen.ask(request)
        await until(lambda: study.said == ["And so on."], "the study goes on")
        assert await kitchen.ask(request) == first
        assert [command.do for command in kitchen.told] == ["release"]
        assert [command.do for command in study.told] == ["offer", "adopt"]

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_what_cannot_be_read_is_refused_with_a_code_and_nothing_else_suffers(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(_: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        await kitchen.talk("hello")
        for topic in ("state", "presence", "reply", "request"):
            await kitchen.link.publish(kitchen.topic(topic), b"{not json")
        refused: list[Reply] = []
        newer = Where().model_copy(update={"v": 9})
        refused.append(await kitchen.ask(newer))
        assert [reply.code for reply in refused] == ["NEWER_VERSION"]
        assert (await kitchen.hand_off("study")).ok

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_who_asks_what_the_hub_fails_at_is_told_so(run_in_real_time: Any, broker: Broker, tmp_path: Path) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        def fails(*_: object) -> None:
            raise ZeroDivisionError

        object.__setattr__(hub.requests, "_timers", fails)
        reply = await study.ask(HouseTimers())
        assert (reply.ok, reply.code) == (False, "INTERNAL_ERROR")
        assert (await study.ask(Where())).ok

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_who_asks_too_much_is_told_so(run_in_real_time: Any, broker: Broker, tmp_path: Path) -> None:
    async def scene(_: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        codes = {(await kitchen.ask(Where())).code for _ in range(60)}
        assert "TOO_MANY_COMMANDS" in codes
        assert (await study.ask(Where())).ok

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_a_flood_of_requests_is_not_answered_by_another(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        answered: list[Reply] = []

        async def note(_: Inbound, reply: Reply, __: str) -> None:
            answered.append(reply)

        answer, hub.link.answer = hub.link.answer, note  # type: ignore[method-assign]
        request = Inbound(kitchen.topic("request"), write(Where()), False, None, b"1", 0.0)
        for _ in range(500):
            await hub._on_request(request)
        hub.link.answer = answer  # type: ignore[method-assign]
        assert (await study.ask(Where())).ok
        assert {reply.code for reply in answered} == {"TOO_MANY_COMMANDS"}
        assert len(answered) < 100  # those that are done are answered later

    in_a_house(run_in_real_time, broker, tmp_path, scene)


# ------------------------------------------------------------------------------------- following, rooms


def test_a_conversation_follows_to_where_somebody_calls_next_and_says_nothing_there(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        assert (await study.ask(Follow())).code == "SESSION_NOT_FOUND"
        session = await kitchen.talk("hello")
        await until(lambda: _state(hub, kitchen).session == session, "the hub knows of it")
        await _is(hub, study, state="listening")
        reply = await study.ask(Follow())
        assert reply.data["device"] == "study"
        await until(lambda: study.has(session), "the study has it")
        assert study.said == []

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_each_room_sees_the_others_and_their_timers_by_their_own_clocks(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        there = kitchen.state.at + timedelta(hours=5)  # its clock is wrong by hours
        pasta = Timer(name="pasta", seconds=600, due=there + timedelta(seconds=300))
        await kitchen.tell(timers=(pasta,), at=there)
        await until(lambda: bool(_state(hub, kitchen).timers), "the hub knows of the timer")
        rooms = (await study.ask(Where())).data["rooms"]
        assert [(room["room"], room["online"]) for room in rooms] == [("kitchen", True)]
        [ringing] = (await study.ask(HouseTimers())).data["timers"]
        assert 270 < ringing["left_s"] <= 300
        assert (await study.ask(CancelTimers(timers=(pasta.id,)))).data == {"cancelled": 1}
        assert [command.do for command in kitchen.told] == ["timer"]

    in_a_house(run_in_real_time, broker, tmp_path, scene)


# ---------------------------------------------------------------------------------------- restarts


@pytest.mark.parametrize("stopped_at", ["release", "offer", "adopt"])
def test_a_hub_that_ends_in_mid_handoff_ends_it_when_it_is_back(
    run_in_real_time: Any, broker: Broker, tmp_path: Path, stopped_at: str
) -> None:
    async def scene() -> None:
        async with (
            hub_room(broker.hub("kitchen"), "kitchen") as kitchen,
            hub_room(broker.hub("study"), "study") as study,
        ):
            kitchen.deaf_to = study.deaf_to = {stopped_at}
            async with a_hub(broker, tmp_path) as hub:
                await until(lambda: all(_online(hub, one.id) for one in (kitchen, study)), "both are known")
                session = await kitchen.talk("hello", rest="And so on.")
                assert (await kitchen.hand_off("study")).ok
                reached = {"release": None, "offer": "release", "adopt": "offer"}[stopped_at]
                told = [*kitchen.told, *study.told]
                await until(
                    lambda: reached in (None, *(one.do for one in (*kitchen.told, *study.told))), f"{told} so far"
                )
            kitchen.deaf_to = study.deaf_to = set()
            async with a_hub(broker, tmp_path):
                await until(lambda: kitchen.has(session) != study.has(session), "one of them has it")
                await until(lambda: "And so on." in [*kitchen.said, *study.said], "the rest is said")
            assert [*kitchen.said, *study.said].count("And so on.") == 1

    run_in_real_time(scene())


def test_a_room_that_was_restarted_is_told_that_its_conversation_is_still_its_own(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with a_hub(broker, tmp_path) as hub, hub_room(broker.hub("kitchen"), "kitchen") as kitchen:
            async with hub_room(broker.hub("study"), "study") as study:
                await until(lambda: all(_online(hub, one.id) for one in (kitchen, study)), "both are known")
                session = await kitchen.talk("hello", rest="And so on.")
                await kitchen.hand_off("study")
                await until(lambda: study.said == ["And so on."], "the study has it")
            async with hub_room(broker.hub("study"), "study", study.disk) as again:
                await until(lambda: session in again.confirmed, "the study knows that it may go on")
                assert again.said == []
                assert [command.epoch for command in again.told if isinstance(command, Adopt)] == [1]

    run_in_real_time(scene())


def test_a_room_whose_broker_was_gone_is_told_again_though_nobody_had_missed_it(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(_: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        session = await kitchen.talk("hello")
        await kitchen.hand_off("study")
        await until(lambda: session in study.confirmed, "the study has it")
        study.confirmed.clear()  # as a device does that was cut off for long
        await study.link.publish(study.topic("presence"), study.presence(), retain=True)
        await until(lambda: session in study.confirmed, "the study knows that it may go on")

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_a_hub_that_lost_its_file_learns_all_from_what_the_broker_keeps(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene() -> None:
        async with (
            hub_room(broker.hub("kitchen"), "kitchen") as kitchen,
            hub_room(broker.hub("study"), "study") as study,
        ):
            async with a_hub(broker, tmp_path) as hub:
                await until(lambda: all(_online(hub, one.id) for one in (kitchen, study)), "both are known")
                session = await kitchen.talk("hello")
                await kitchen.hand_off("study")
                await until(lambda: study.has(session), "the study has it")
                await until(lambda: _state(hub, study).epoch == 1, "the hub knows that it knows")
            for file in database_path(tmp_path).parent.glob("hub.db*"):
                file.unlink()
            async with a_hub(broker, tmp_path) as hub:
                await until(lambda: len(hub.registry.all()) == 2, "both rooms are known")
                assert (await study.hand_off("kitchen")).ok
                await until(lambda: kitchen.has(session), "it came back")
                assert kitchen.epoch(session) == 2

    run_in_real_time(scene())


def test_a_broker_that_was_started_anew_costs_nothing(run_in_real_time: Any, broker: Broker, tmp_path: Path) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        session = await kitchen.talk("hello")
        broker.stop()
        await until(lambda: not (hub.link.up or kitchen.link.up or study.link.up), "nobody is connected")
        broker.start()
        await until(lambda: hub.settled and kitchen.link.up and study.link.up, "all are back")
        await until(lambda: all(hub.registry.get(one).online for one in ("kitchen", "study")), "and known")  # type: ignore[union-attr]
        assert (await kitchen.hand_off("study")).ok
        await until(lambda: study.has(session), "the study has it")

    in_a_house(run_in_real_time, broker, tmp_path, scene)


# ---------------------------------------------------------------------------------------- two hubs


def test_two_hub_processes_share_the_work_and_never_both_act(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        async with a_hub(broker, tmp_path) as other:
            await until(lambda: all(_online(other, one) for one in ("kitchen", "study")), "the other knows them too")
            session = await kitchen.talk("hello", rest="And so on.")
            await until(lambda: _state(other, kitchen).session == session, "the other knows of it")
            for _ in range(3):
                assert (await kitchen.hand_off("study")).ok
                await until(lambda: study.has(session), "the study has it")
                await until(lambda: _state(hub, study).epoch == _state(other, study).epoch != 0, "both know")
                assert (await _moved_back(study)).ok
                await until(lambda: kitchen.has(session), "the kitchen has it")
                await until(lambda: _state(hub, kitchen).session == session, "both know")
            assert [*kitchen.said, *study.said] == ["And so on."]
            assert [one.do for one in kitchen.told] == ["release", "offer", "adopt"] * 3
        await until(lambda: kitchen.link.up, "the kitchen is there")
        assert (await kitchen.hand_off("study")).ok

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def _online(hub: Hub, id_: str) -> bool:
    device = hub.registry.get(id_)
    return device is not None and bool(device.online)


async def _moved_back(study: HubRoom) -> Reply:
    """Ask until the handoff before is confirmed to the hub; a person would not be quicker."""
    replies: list[Reply] = []

    while not replies or replies[-1].code == "DEVICE_BUSY":
        replies.append(await study.hand_off("kitchen"))
    return replies[-1]


# ---------------------------------------------------------------------------------- who sits at the hub


async def ask_hub(hub: Hub, folder: Path, **request: object) -> list[dict[str, Any]]:
    path = folder / "s"
    async with beside(control.serve(path, hub.answers.answer), "socket"):
        await until(path.exists, "the socket is there")
        return [message async for message in ask_daemon(path, request)]


def test_whoever_sits_at_the_hub_sees_the_devices_and_moves_conversations(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        session = await kitchen.talk("hello")
        await until(lambda: _state(hub, kitchen).session == session, "the hub knows of it")
        with pytest.raises(RoomtoneError, match="no conversation begins with nosuch; see: roomtone hub sessions"):
            await ask_hub(hub, tmp_path, command="handoff", **{"from": "kitchen", "to": "study", "session": "nosuch"})
        words = {"from": "kitchen", "to": "study", "session": session[:8]}
        done = await ask_hub(hub, tmp_path, command="handoff", **words)
        assert (done[-1]["result"]["room"], done[-1]["result"]["phase"]) == ("study", "over")
        assert study.has(session)
        *devices, _ = await ask_hub(hub, tmp_path, command="devices")
        assert [one["device"]["id"] for one in devices] == ["kitchen", "study"]
        *moved, _ = await ask_hub(hub, tmp_path, command="sessions")
        assert [(one["session"]["owner"], one["session"]["epoch"]) for one in moved] == [("study", 1)]
        kitchen.hindrance = "DEVICE_MUTED"
        await until(lambda: _state(hub, study).session == session, "the hub knows of it")
        with pytest.raises(RoomtoneError, match="stays in the study: the microphone there is off"):
            await ask_hub(hub, tmp_path, command="handoff", **{"from": "study", "to": "kitchen"})

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_a_retired_device_is_gone_for_all_until_it_is_there_again(
    run_in_real_time: Any, broker: Broker, tmp_path: Path
) -> None:
    async def scene(hub: Hub, kitchen: HubRoom, study: HubRoom) -> None:
        async with hub_room(broker.hub("attic"), "attic"):
            await until(lambda: _known(hub, "attic"), "the attic is known")
        await until(lambda: not _online(hub, "attic"), "it is off")
        await ask_hub(hub, tmp_path, command="retire", device="attic")
        await kitchen.talk("hello")
        assert (await kitchen.hand_off("attic")).code == "DEVICE_NOT_FOUND"
        async with hub_room(broker.hub("attic"), "attic"):
            await until(lambda: _online(hub, "attic"), "the attic is a room again")

    in_a_house(run_in_real_time, broker, tmp_path, scene)


def test_a_hub_that_was_never_set_up_says_what_sets_it_up(run_in_real_time: Any, tmp_path: Path) -> None:
    async def scene() -> None:
        with pytest.raises(RegistrationError, match="roomtone hub setup"):
            async with open_hub(Settings(state_dir=tmp_path)):
                pass

    run_in_real_time(scene())
