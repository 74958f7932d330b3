"""A room in its house: over a real broker, as the daemon does it; without one it goes on by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker import Broker
from conftest import Run
from house_wire import Wire
from rooms import HELP, room, scripted
from roomtone.app import Room
from roomtone.clock import utc_now
from roomtone.core.dialog import Source, Timer
from roomtone.core.errors import HandoffRefused, HubGone
from roomtone.core.signals import MuteSet, Prompt
from roomtone.core.wire import Presence, Reply, Say, State, Topics, Volume, read
from roomtone.flow import beside
from roomtone.hub.serve import open_hub
from roomtone.joining import Joined, Member, can_serve, join_the_house, joined
from roomtone.link import Inbound, Link
from roomtone.mind.house import Alone
from roomtone.settings import Settings
from test_daemon import Daemon, running

TOPICS = Topics("ours")
LONGEST_S = 30.0
ANY_HUB = {"url": "mqtts://hub.local"}
IS_THERE = ("bedroom", True)
Members = tuple[tuple[str, Member], ...]


@asynccontextmanager
async def kitchen(tmp_path: Path, called: str = "kitchen", **sections: Any) -> AsyncIterator[Room]:
    device = {"id": f"{called}-1", "name": called.title(), "room": called}
    settings = scripted(HELP, device=device, state_dir=tmp_path, **sections)
    async with room(settings, tmp_path) as rehearsal:
        yield rehearsal.room


def of(broker: Broker, device: str, **more: Any) -> dict[str, Any]:
    return {**broker.hub(device).model_dump(exclude_none=True), **more}


class Watching:
    """Somebody in the house who sees what rooms tell, and can tell them to do something."""

    def __init__(self, broker: Broker, device: str = "hub") -> None:
        topic = TOPICS.hub() if device == "hub" else TOPICS.device(device, "presence")
        self.link = Link(broker.hub(device), device, lambda: Presence(id=device, online=True, room="other"), topic)
        self.seen: asyncio.Queue[Inbound] = asyncio.Queue()

    def watch(self, what: str) -> None:
        self.link.on(TOPICS.device("kitchen-1", what), self.seen.put)

    async def until(self, topic: str) -> Inbound:
        async with asyncio.timeout(LONGEST_S):
            while not (message := await self.seen.get()).topic.endswith(topic):
                pass
        return message

    async def tells(self, command: Any) -> Reply:
        command_topic, reply = TOPICS.device("kitchen-1", "command"), TOPICS.device("kitchen-1", "reply")
        return await self.link.ask(command_topic, command, response_topic=reply, within_s=5)


def test_a_room_joins_and_obeys_over_a_real_broker(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        hub = Watching(broker)
        hub.watch("+")
        async with beside(hub.link.run(), "hub"), kitchen(tmp_path, hub=of(broker, "kitchen-1")) as here:
            async with joined(here):
                assert read(Presence, (await hub.until("presence")).payload).online
                assert read(State, (await hub.until("state")).payload).state == "idle"
                assert (await hub.tells(Volume(volume=0.25))).ok
                assert read(State, (await hub.until("state")).payload).volume == 0.25
                assert (await hub.tells(Say(text="Hi."))).ok
                await hub.until("turn")
                assert here.health()["house"] == "ok"
            assert not read(Presence, (await hub.until("presence")).payload).online
            assert isinstance(here.parts.housed.house, Alone)
            assert "house" not in here.health()

    run_in_real_time(main())


def test_the_daemon_joins_and_leaves(run_in_real_time: Run[None], broker: Broker, tmp_path: Path) -> None:
    async def main(daemon: Daemon) -> None:
        hub = Watching(broker)
        hub.watch("+")
        async with beside(hub.link.run(), "hub"):
            while not read(Presence, (await hub.until("presence")).payload).online:
                pass
            daemon.process.terminate()
            while read(Presence, (await hub.until("presence")).payload).online:
                pass

    hub = of(broker, "kitchen-1")
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in hub.items()}
    with running(tmp_path, {"device": {"id": "kitchen-1"}, "audio": {"engine": "wav"}, "hub": plain}) as daemon:
        run_in_real_time(main(daemon))
        daemon.process.communicate(timeout=LONGEST_S)
        assert daemon.process.returncode == 0


def test_two_rooms_know_of_each_other_through_a_real_hub(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        hub = Settings(state_dir=tmp_path / "hub", hub=broker.hub("hub"))
        async with (
            open_hub(hub),
            kitchen(tmp_path / "one", hub=of(broker, "kitchen-1")) as here,
            kitchen(tmp_path / "two", called="bedroom", hub=of(broker, "bedroom-1")) as there,
            joined(here) as one,
            joined(there) as two,
        ):
            house = one.house
            await so(lambda: house.others_online() and house.hub_online and two.house.others_online())
            bedroom = house.find("the bedroom")
            due = utc_now() + timedelta(minutes=9)
            await there.parts.timers.save([Timer(id="t", name="pasta", due=due, seconds=540)])
            two.edge.look()
            await until(house.timers, lambda found: [each.timer.name for each in found] == ["pasta"])
            await house.cancel_timers(await house.timers())
            await until(there.parts.timers.running, lambda found: found == [])
            await until(house.who_is_where, lambda found: [(each.room, each.online) for each in found] == [IS_THERE])
            with there.feed.watch("turn.ended") as ended:
                assert (await house.announce("Tea.", bedroom)).rooms == ("bedroom",)
                assert "Tea." in (await anext(ended)).data.turn.spoken
            await here.conversation.answer(Prompt("Yes.", Source.CLI, verbatim=True))
            there.conversation.post(MuteSet(True))
            await until(house.who_is_where, lambda found: found[0].muted)
            with pytest.raises(HandoffRefused) as refused:
                await house.hand_off(bedroom)
            assert refused.value.details["why"] == "DEVICE_MUTED"

    run_in_real_time(main())


def test_a_room_joins_when_its_broker_comes_and_again_when_that_is_back(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        broker.kill()
        sections = of(broker, "kitchen-1")
        async with kitchen(tmp_path, hub=sections) as here, beside(join_the_house(here), "house"):
            await health(here, lambda line: line not in ("ok", "not connected yet"))
            assert not here.parts.housed.house.rooms()
            broker.start()
            await health(here, lambda line: line == "ok")
            broker.kill()
            await health(here, lambda line: line != "ok")
            broker.start()
            await health(here, lambda line: line == "ok")

    run_in_real_time(main())


def test_a_room_of_another_house_is_told_so_and_answers_all_the_same(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        other = Broker(tmp_path / "other")
        foreign = other.hub("kitchen-1").model_dump(exclude_none=True)
        foreign |= {"url": broker.hub("kitchen-1").url, "ca": broker.hub("kitchen-1").ca}
        async with kitchen(tmp_path, hub=foreign) as here, beside(join_the_house(here), "house"):
            await health(here, lambda line: "certificate" in line)
            turn = await here.conversation.answer(Prompt("Yes.", Source.CLI, verbatim=True))
            assert turn.spoken == "Yes."

    run_in_real_time(main())


def test_two_devices_of_one_id_are_told_what_mends_it(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        sections = of(broker, "kitchen-1")
        async with (
            kitchen(tmp_path / "one", hub=sections) as here,
            kitchen(tmp_path / "two", hub=sections) as there,
            beside(join_the_house(here), "one"),
        ):
            await health(here, lambda line: line == "ok")
            async with beside(join_the_house(there), "two"):
                await health(here, lambda line: "device.id" in line)

    run_in_real_time(main())


def test_a_room_without_a_hub_in_its_configuration_joins_nothing(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path) as here:
            await join_the_house(here)
            assert isinstance(here.parts.housed.house, Alone)
            with pytest.raises(HubGone):
                await here.parts.housed.house.announce("hello")

    run(main())


def test_what_joining_left_is_enough_to_be_in_the_house(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        left, given = tmp_path / "hub", broker.hub("kitchen-1")
        left.mkdir()
        for what in ("ca", "cert", "key"):
            (left / f"{what}.pem").write_bytes(getattr(given, what).read_bytes())
        (left / "house.json").write_text(json.dumps({"id": "kitchen-1", "home": given.home, "url": given.url}))
        async with kitchen(tmp_path) as here, beside(join_the_house(here), "house"):
            await health(here, lambda line: line == "ok")

    run_in_real_time(main())


def test_what_joining_left_and_cannot_be_read_is_told(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "hub").mkdir()
        (tmp_path / "hub" / "house.json").write_text("{")
        async with kitchen(tmp_path) as here:
            await join_the_house(here)
            assert "roomtone hub join" in here.health()["house"]

    run(main())


def test_an_id_that_the_house_does_not_take_is_told(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        settings = scripted(HELP, device={"id": "k" * 65}, state_dir=tmp_path, hub=ANY_HUB)
        async with room(settings, tmp_path) as here:
            await join_the_house(here.room)
            assert "device.id" in here.room.health()["house"]

    run(main())


def test_what_fails_in_the_house_leaves_the_rest_and_the_voice(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        wire = Wire()
        members: Members = (("lamp", lambda _: broken()),)
        async with kitchen(tmp_path, hub=ANY_HUB) as here, joined(here, link_of=wire.link_of, members=members):
            turn = await here.conversation.answer(Prompt(HELP, Source.CLI))
            assert turn.spoken
            await asyncio.sleep(1)
            assert wire.payloads("kitchen-1/turn")

    run(main())
    assert "lamp is out of use" in caplog.text


def test_a_member_is_asked_before_the_house_hears_of_the_room(run: Run[None], tmp_path: Path) -> None:
    def carries(whole: Joined) -> None:
        whole.identity.capabilities.add("handoff")

    async def main() -> None:
        wire = Wire()
        members: Members = (("mover", carries),)
        async with kitchen(tmp_path, hub=ANY_HUB) as here, joined(here, link_of=wire.link_of, members=members):
            await asyncio.sleep(1)
            first = read(Presence, wire.payloads("kitchen-1/presence")[0])
            assert "handoff" in first.capabilities

    run(main())


def test_a_room_serves_while_some_engine_of_each_seam_may_be_asked(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with kitchen(tmp_path) as here:
            assert can_serve(here)
            now = asyncio.get_running_loop().time()
            for place in here.parts.stt.places:
                place.rests_until = now + 60
            assert not can_serve(here)
            await asyncio.sleep(61)
            assert can_serve(here)
            here.parts.ears.health = "the microphone is lost"
            assert not can_serve(here)

    run(main())


async def so(is_so: Callable[[], bool]) -> None:
    """Wait until something is so, of which nobody tells."""
    async with asyncio.timeout(LONGEST_S):
        while not is_so():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.02)


async def until(ask: Callable[[], Awaitable[Any]], is_so: Callable[[Any], bool]) -> None:
    """Ask again until the answer is so."""
    async with asyncio.timeout(LONGEST_S):
        while not is_so(await ask()):  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.05)


async def health(here: Room, is_so: Callable[[str], bool]) -> None:
    """Wait until the room's place in the house is told of so."""
    await so(lambda: is_so(here.health().get("house", "")))
