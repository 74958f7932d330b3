"""What somebody sent to a room that was off is not done when it is on again."""

from __future__ import annotations

import asyncio
from pathlib import Path

from broker import Broker, broker
from conftest import Run
from rooms import room, scripted
from roomtone.core.wire import Code, Presence, Reply, SetTimers, Topics, UsePersona, Volume, read, write
from roomtone.flow import beside
from roomtone.joining import joined
from roomtone.link import Inbound, Link
from test_edge_mqtt import timer

__all__ = ["broker"]

TOPICS = Topics("ours")
COMMAND = TOPICS.device("kitchen-1", "command")
LONGEST_S = 20.0


class HomeAssistant:
    """Somebody who sends commands and does not say how long they are of use."""

    def __init__(self, broker: Broker) -> None:
        self.link = Link(broker.hub("hub"), "hub", lambda: Presence(id="hub", online=True), TOPICS.hub())
        self.link.on(TOPICS.device("+", "reply"), self._take)
        self.replies: dict[str, Reply] = {}
        self._more = asyncio.Event()

    async def _take(self, message: Inbound) -> None:
        reply = read(Reply, message.payload)
        self.replies[reply.of] = reply
        self._more.set()

    async def reply_to(self, id_: str) -> Reply:
        async with asyncio.timeout(LONGEST_S):
            while id_ not in self.replies:
                self._more.clear()
                await self._more.wait()
        return self.replies[id_]


def test_a_command_that_waited_for_a_room_that_was_off_is_refused_and_the_next_is_obeyed(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        settings = scripted(
            device={"id": "kitchen-1", "room": "kitchen"},
            hub=broker.hub("kitchen-1").model_dump(exclude_none=True),
        )
        home = HomeAssistant(broker)
        async with beside(home.link.run(), "home assistant"):
            async with room(settings, tmp_path) as kitchen, joined(kitchen.room) as house:
                await up(house.link)
                await up(home.link)
            for order in (Volume(id="loud", volume=0.9), UsePersona(id="chef", persona="chef")):
                await home.link.publish(COMMAND, write(order))
            await home.link.publish(COMMAND, write(Volume(id="dated", volume=0.4)), expires_s=60)
            await home.link.publish(COMMAND, write(SetTimers(id="tea", save=(timer(name="tea"),))))
            async with room(settings, tmp_path) as kitchen, joined(kitchen.room) as house:
                assert (await home.reply_to("tea")).ok
                assert {(await home.reply_to(id_)).code for id_ in ("loud", "chef")} == {Code.TOO_LATE}
                assert (await home.reply_to("dated")).ok
                assert kitchen.room.parts.mouth.loudspeaker.volume == 0.4
                assert [each.name for each in await kitchen.room.parts.timers.running()] == ["tea"]
                await up(house.link)
                await home.link.publish(COMMAND, write(Volume(id="now", volume=0.7)))
                assert (await home.reply_to("now")).ok

    run_in_real_time(main())


async def up(link: Link) -> None:
    async with asyncio.timeout(LONGEST_S):
        while not link.up:  # noqa: ASYNC110  # it comes by itself
            await asyncio.sleep(0.02)
