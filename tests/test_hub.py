"""The hub with a real broker: who is there, who may have a conversation, and what a restart in between costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from broker import Broker, broker
from hub_rooms import HubRoom, hub_room, until
from roomtone.hub.serve import Hub, open_hub
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
