"""Turns that end while the broker is out of reach are told of once it is there again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from broker import Broker, broker
from conftest import Run
from rooms import room, scripted
from roomtone.core.dialog import Source
from roomtone.core.signals import Prompt
from roomtone.core.wire import Presence, Topics
from roomtone.flow import beside
from roomtone.joining import joined
from roomtone.link import Inbound, Link
from roomtone.rehearsal import Rehearsal

__all__ = ["broker"]

TOPICS = Topics("ours")
LONGEST_S = 20.0


class Listener:
    """Whoever is told of the kitchen's turns."""

    def __init__(self, broker: Broker) -> None:
        self.link = Link(broker.hub("hub"), "hub", lambda: Presence(id="hub", online=True), TOPICS.hub())
        self.link.on(TOPICS.device("+", "turn"), self._take)
        self.traces: list[str] = []
        self._more = asyncio.Event()

    async def _take(self, message: Inbound) -> None:
        self.traces.append(json.loads(message.payload)["trace"])
        self._more.set()

    async def until(self, trace: str) -> None:
        async with asyncio.timeout(LONGEST_S):
            while trace not in self.traces:
                self._more.clear()
                await self._more.wait()


async def until_link(link: Link, *, up: bool) -> None:
    async with asyncio.timeout(LONGEST_S):
        while link.up is not up:  # noqa: ASYNC110  # it comes back by itself
            await asyncio.sleep(0.02)


async def until_confirmed(link: Link) -> None:
    """Wait until the broker has confirmed what was sent: what it had no time to confirm would rightly come again."""
    await link.publish(TOPICS.device("kitchen-1", "reply"), b"{}")  # it confirms in the order of sending


async def answers(kitchen: Rehearsal, text: str) -> str:
    """Ask something, and return the trace of its turn."""
    kitchen.room.conversation.post(Prompt(text, Source.CLI))
    async with asyncio.timeout(LONGEST_S):
        while (event := await kitchen.next_event()).kind != "turn.ended":
            pass
    return str(event.data.turn.trace)


def test_turns_that_ended_without_a_broker_are_told_once_and_in_order_when_it_is_back(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        settings = scripted(
            device={"id": "kitchen-1", "room": "kitchen"},
            hub=broker.hub("kitchen-1").model_dump(exclude_none=True),
            tts={"word_s": 0.02},
        )
        listener = Listener(broker)
        async with (
            beside(listener.link.run(), "listener"),
            room(settings, tmp_path) as kitchen,
            joined(kitchen.room) as house,
        ):
            await until_link(house.link, up=True)
            traces = [await answers(kitchen, "what time is it")]
            await listener.until(traces[0])
            await until_confirmed(house.link)
            broker.stop()
            await until_link(house.link, up=False)
            traces += [await answers(kitchen, "what time is it") for _ in range(3)]
            broker.start()
            await until_link(house.link, up=True)
            traces.append(await answers(kitchen, "what time is it"))
            await listener.until(traces[-1])
            assert listener.traces == traces

    run_in_real_time(main())
