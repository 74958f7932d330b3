"""A certificate is renewed before it ends, while the room is connected, for the key that it has had all along."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker import Broker
from conftest import Run
from roomtone.core.errors import PayloadError, RegistrationError
from roomtone.core.wire import Presence
from roomtone.credentials import RENEW, expires, key_pem, new_key, request
from roomtone.durable import write_durably
from roomtone.edges.renewal import is_due, renew
from roomtone.flow import beside
from roomtone.hub import renewal
from roomtone.hub.serve import open_hub
from roomtone.hub.setting_up import Setup, set_up
from roomtone.link import Link
from roomtone.settings import Settings

SOON = timedelta(days=10)


@pytest.fixture
def room(broker: Broker, tmp_path: Path) -> Path:
    """The folder of a room whose certificate ends soon."""
    folder = tmp_path / "room"
    folder.mkdir()
    key = new_key()
    write_durably(folder / "key.pem", key_pem(key))
    csr = request(key, "kitchen")
    write_durably(folder / "cert.pem", broker.authority.issue(csr, "kitchen", until=datetime.now(UTC) + SOON))
    write_durably(folder / "ca.pem", broker.authority.ca_pem)
    return folder


@asynccontextmanager
async def a_house(broker: Broker, room: Path, state: Path) -> AsyncIterator[Link]:
    """Run a hub, and give a room's link once that is up."""
    set_up(state, Setup(home="ours", url="mqtts://localhost:1"), [])
    (state / "hub" / "authority").rename(state / "unused")
    (state / "hub" / "authority").symlink_to(broker.folder / "authority")
    up = asyncio.Event()
    at = broker.hub("other").model_copy(update={name: room / f"{name}.pem" for name in ("ca", "cert", "key")})
    presence = Presence(id="kitchen", online=True, room="kitchen", instance="a")
    topic = "roomtone/v1/ours/device/kitchen/presence"
    link = Link(at, "kitchen", lambda: presence, topic, on_change=lambda is_up: up.set() if is_up else None)
    heard = asyncio.Event()

    async def hear_hub(_: object) -> None:
        heard.set()

    link.on(link.topics.hub(), hear_hub)
    async with open_hub(Settings(state_dir=state, hub=broker.hub("hub"))), beside(link.run(), "link"):
        await up.wait()
        await heard.wait()
        yield link


def test_a_certificate_that_ends_soon_is_renewed(
    broker: Broker, room: Path, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        async with a_house(broker, room, tmp_path / "hub") as link:
            assert is_due(room)
            await renew(link, "kitchen", room)
            assert not is_due(room)
            first = (room / "cert.pem").read_bytes()
            await renew(link, "kitchen", room)
            assert (room / "cert.pem").read_bytes() == first  # what is good is not made again

    run_in_real_time(scene())
    assert expires(room / "cert.pem") - datetime.now(UTC) > RENEW


def test_nobody_gets_a_certificate_for_another_key_by_a_devices_connection(
    broker: Broker, room: Path, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    before = (room / "cert.pem").read_bytes()

    async def scene() -> None:
        async with a_house(broker, room, tmp_path / "hub") as link:
            write_durably(room / "key.pem", key_pem(new_key()))
            with pytest.raises(PayloadError, match="is not the key with which kitchen joined"):
                await renew(link, "kitchen", room)

    run_in_real_time(scene())
    assert (room / "cert.pem").read_bytes() == before


def test_a_hub_that_signs_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match="run: roomtone hub setup"):
        renewal.renew(tmp_path, "kitchen", request(new_key(), "kitchen"))


def test_a_room_that_never_joined_has_nothing_to_renew(tmp_path: Path) -> None:
    assert not is_due(tmp_path)
