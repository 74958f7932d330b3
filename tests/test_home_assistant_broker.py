"""A room, Home Assistant and a nosy neighbour at the broker as it is shipped: who finds and who reads what."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2.sandbox import ImmutableSandboxedEnvironment

from broker import Broker
from conftest import Run
from rooms import room, scripted
from roomtone.app import Room
from roomtone.core.dialog import Source
from roomtone.core.signals import Prompt
from roomtone.core.wire import Presence, State, Topics, Volume, read
from roomtone.edges.home_assistant import topic
from roomtone.flow import beside
from roomtone.joining import joined
from roomtone.link import Inbound, Link

TOPICS = Topics("ours")
CONFIG = topic("kitchen-1")
QUESTION = "what time is it"
LONGEST_S = 15.0


class Client:
    """Somebody at the broker who asks for everything that there is, and sees what it lets them see."""

    def __init__(self, broker: Broker, name: str) -> None:
        presence = TOPICS.device(name, "presence")
        self.link = Link(broker.hub(name), name, lambda: Presence(id=name, online=True), presence)
        self.link.on("#", self._see)
        self.seen: list[Inbound] = []
        self._more = asyncio.Event()

    async def _see(self, message: Inbound) -> None:
        self.seen.append(message)
        self._more.set()

    async def until(self, topic: str, holds: Callable[[bytes], bool] = bool) -> bytes:
        """Wait until something that holds has come to a topic, and return it."""
        async with asyncio.timeout(LONGEST_S):
            while True:
                self._more.clear()
                for message in self.seen:
                    if message.topic == topic and holds(message.payload):
                        return message.payload
                await self._more.wait()

    async def writes(self, topic: str, payload: bytes) -> None:
        await self.link.publish(topic, payload, retain=True)

    def read_at(self) -> set[str]:
        """Return what of the kitchen it could read."""
        mine = TOPICS.device("kitchen-1", "")
        return {message.topic.removeprefix(mine) for message in self.seen if message.topic.startswith(mine)}

    def all_of_it(self) -> bytes:
        return b"".join(message.payload for message in self.seen)


@dataclass
class House:
    kitchen: Room
    home_assistant: Client
    hall: Client

    async def asks(self) -> str:
        """Let somebody in the kitchen ask something; return the answer once the house has been told of it."""
        self.kitchen.conversation.post(Prompt(QUESTION, Source.CLI))
        with self.kitchen.feed.watch("turn.ended") as turns:
            answer: str = (await anext(turns)).data.turn.spoken
        await self.home_assistant.until(TOPICS.device("kitchen-1", "turn"))
        assert answer
        return answer


@asynccontextmanager
async def house(broker: Broker, tmp_path: Path, **hub: Any) -> AsyncIterator[House]:
    """Open a kitchen that has joined, with Home Assistant and another room at the same broker."""
    device = {"id": "kitchen-1", "name": "Kitchen", "room": "kitchen"}
    sections = {**broker.hub("kitchen-1").model_dump(exclude_none=True), **hub}
    others = Client(broker, "homeassistant"), Client(broker, "hall-1")
    async with AsyncExitStack() as stack:
        for each in others:
            await stack.enter_async_context(beside(each.link.run(), "link"))
        rehearsal = await stack.enter_async_context(room(scripted(device=device, hub=sections), tmp_path))
        await stack.enter_async_context(joined(rehearsal.room))
        yield House(rehearsal.room, *others)


def rendered(template: str, value: Any) -> bytes:
    """Render a template of a command as Home Assistant does."""
    world = ImmutableSandboxedEnvironment()
    world.filters["to_json"] = json.dumps
    world.globals["now"] = lambda: datetime.now(UTC)
    return world.from_string(template).render(value=value).encode()


def test_home_assistant_finds_the_room_and_is_obeyed(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(broker, tmp_path) as here:
            told = json.loads(await here.home_assistant.until(CONFIG))
            volume = told["components"]["volume"]
            command = rendered(volume["command_template"], 35)
            await here.home_assistant.link.publish(volume["command_topic"], command)
            await here.home_assistant.until(volume["state_topic"], lambda state: read(State, state).volume == 0.35)

    run_in_real_time(main())


def test_no_word_leaves_a_room_that_shares_none(run_in_real_time: Run[None], broker: Broker, tmp_path: Path) -> None:
    async def main() -> None:
        async with house(broker, tmp_path) as here:
            answer = await here.asks()
            await here.home_assistant.until(CONFIG)
            for client in (here.home_assistant, here.hall):
                assert QUESTION.encode() not in client.all_of_it()
                assert answer.encode() not in client.all_of_it()

    run_in_real_time(main())


def test_shared_words_reach_home_assistant_but_no_other_room(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(broker, tmp_path, share_texts=True) as here:
            await here.home_assistant.link.publish(TOPICS.device("kitchen-1", "command"), Volume(volume=0.2))
            answer = await here.asks()
            state = TOPICS.device("kitchen-1", "state")
            await here.home_assistant.until(state, lambda payload: read(State, payload).said == answer)
            turn = json.loads(await here.home_assistant.until(TOPICS.device("kitchen-1", "turn")))
            assert (turn["heard"], turn["spoken"]) == (QUESTION, answer)
            await here.home_assistant.until(CONFIG)
            await here.hall.until(TOPICS.device("kitchen-1", "presence"))
            assert here.hall.read_at() <= {"presence", "wake"}
            assert here.home_assistant.read_at() == {"presence", "state", "turn"}

    run_in_real_time(main())


def test_what_home_assistant_took_back_comes_again_when_it_starts(
    run_in_real_time: Run[None], broker: Broker, tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(broker, tmp_path) as here:
            told = await here.home_assistant.until(CONFIG)
            await here.home_assistant.writes(CONFIG, b"")
            await here.home_assistant.until(CONFIG, lambda payload: payload == b"")
            here.home_assistant.seen.clear()
            await here.home_assistant.writes("homeassistant/status", b"online")
            assert await here.home_assistant.until(CONFIG) == told

    run_in_real_time(main())
