"""A new device needs no address: the hub of its home is found in the network, and where it was is remembered."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import Broker, broker
from conftest import Run
from roomtone import discovery
from roomtone.core.wire import Presence, Topics
from roomtone.discovery import HUB, Found, Service, announce, find_hub, last_found, record, remember
from roomtone.flow import beside
from roomtone.link import Link, wayfinding
from roomtone.link.trouble import Trouble
from roomtone.link.wayfinding import Wayfinder
from roomtone.settings import Hub
from test_wyoming import multicast

__all__ = ["broker"]

LOOPBACK = "127.0.0.1"
WAITS_S = 10.0

on_the_network = pytest.mark.skipif(not multicast(), reason="no multicast on the loopback interface")


def hub_service(home: str, port: int, name: str) -> Service:
    return Service(HUB, f"Roomtone {home}", port, {"home": home}, machine=f"{name}.local.")


@on_the_network
def test_the_hub_of_ones_own_home_is_found_among_others(run_in_real_time: Run[None]) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as hubs:
            for home, port in (("theirs", 8881), ("ours", 8882)):
                await hubs.enter_async_context(
                    beside(announce(hub_service(home, port, f"pi-{home}"), LOOPBACK), home)
                )
            assert await find_hub("ours", WAITS_S, LOOPBACK) == Found(LOOPBACK, 8882, "pi-ours.local")

    run_in_real_time(scenario())


@on_the_network
def test_a_home_without_a_hub_is_not_waited_for_without_end(run_in_real_time: Run[None]) -> None:
    async def scenario() -> None:
        assert await find_hub("nobodys", 0.3, LOOPBACK) is None

    run_in_real_time(scenario())


def test_where_there_is_no_network_no_hub_is_found(run: Run[None], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_route(_: str) -> str:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(discovery, "own_address", no_route)

    async def scenario() -> None:
        assert await find_hub("ours") is None
        with pytest.raises(Trouble, match=r"no hub of the home 'ours' was found in the network; is it on\?"):
            await Wayfinder(Hub(url="auto", home="ours")).find()

    run(scenario())


def test_a_room_without_an_address_joins_over_what_it_found_by_the_name_in_the_certificate(
    broker: Broker, run_in_real_time: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address that was dialled (127.0.0.2) is in no certificate: the name that the hub announces is."""

    async def find(home: str) -> Found | None:
        return Found("127.0.0.2", broker.port, "localhost") if home == "ours" else None

    monkeypatch.setattr(wayfinding, "find_hub", find)

    async def scenario() -> None:
        up = asyncio.Event()
        hub = broker.hub("kitchen").model_copy(update={"url": "auto"})
        topic = Topics("ours").device("kitchen", "presence")
        link = Link(
            hub, "kitchen", lambda: Presence(id="kitchen", online=True, room="k"), topic,
            on_change=lambda now: up.set() if now else up.clear(), folder=tmp_path,
        )  # fmt: skip
        async with beside(link.run(), "kitchen"), asyncio.timeout(WAITS_S):
            await up.wait()
            assert link.host == "127.0.0.2"
        assert last_found(tmp_path) == Found("127.0.0.2", broker.port, "localhost")

    run_in_real_time(scenario())


def test_what_was_found_last_is_tried_first_and_the_network_asked_after_a_failure(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    there: list[Found | None] = [Found("192.168.1.7", 8883, "pi.local"), None, Found("192.168.1.9", 8883, "pi.local")]

    async def find(home: str) -> Found | None:
        looked.append(home)
        return there.pop(0)

    monkeypatch.setattr(wayfinding, "find_hub", find)

    async def scenario() -> None:
        ways = Wayfinder(Hub(url="auto", home="ours"), tmp_path)
        assert (await ways.find()).host == "192.168.1.7"
        again = Wayfinder(Hub(url="auto", home="ours"), tmp_path)
        assert (await again.find()).host == "192.168.1.7"
        assert looked == ["ours"]
        again.failed()
        assert (await again.find()).host == "192.168.1.7", "nobody answered: what was known is all there is"
        again.failed()
        again.failed()
        assert (await again.find()).host == "192.168.1.9"
        assert last_found(tmp_path) == Found("192.168.1.9", 8883, "pi.local")

    run(scenario())


@pytest.mark.parametrize("content", ["", "[]", "{", '{"address": 1}', '"text"', '{"address": "a", "port": 1}'])
def test_a_broken_memory_of_the_last_address_is_none(content: str, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(content, "utf-8")
    assert last_found(tmp_path) is None


def test_an_address_that_cannot_be_kept_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    remember(tmp_path / "file" / "folder", Found("a", 1, "b"))
    remember(None, Found("a", 1, "b"))
    assert last_found(None) is None


@pytest.mark.parametrize(
    ("url", "host", "port", "encrypted"),
    [
        ("mqtts://hub.local", "hub.local", 8883, True),
        ("mqtt://hub.local", "hub.local", 1883, False),
        ("mqtts://hub.local:99", "hub.local", 99, True),
        ("mqtts://[fe80::1]:99", "fe80::1", 99, True),
    ],
)
def test_a_url_leads_to_a_broker(url: str, host: str, port: int, encrypted: bool, run: Run[None]) -> None:
    async def scenario() -> None:
        way = await Wayfinder(Hub(url=url)).find()
        assert (way.host, way.port, way.tls is not None) == (host, port, encrypted)
        assert way.tls is None or way.tls.verify_mode is ssl.CERT_REQUIRED

    run(scenario())


def test_user_and_password_come_from_the_url_or_the_settings(run: Run[None]) -> None:
    async def scenario() -> None:
        way = await Wayfinder(Hub.model_validate({"url": "mqtt://me:a%2Fb@hub.local"})).find()
        assert (way.username, way.password) == ("me", "a/b")
        way = await Wayfinder(
            Hub.model_validate({"url": "mqtt://hub.local", "username": "me", "password": "x"})
        ).find()
        assert (way.username, way.password) == ("me", "x")

    run(scenario())


@pytest.mark.parametrize("url", ["mqtts://hub.local:99999", "mqtts://hub.local:port"])
def test_a_port_that_cannot_be_is_told(url: str, run: Run[None]) -> None:
    async def scenario() -> None:
        with pytest.raises(Trouble, match="no port that can be"):
            await Wayfinder(Hub(url=url)).find()

    run(scenario())


def test_the_files_that_joining_left_are_taken_where_the_settings_name_no_other(
    broker: Broker, run: Run[None], tmp_path: Path
) -> None:
    hub = broker.hub("kitchen")
    for what in ("ca", "cert", "key"):
        (tmp_path / f"{what}.pem").write_bytes(Path(getattr(hub, what)).read_bytes())

    async def scenario() -> None:
        way = await Wayfinder(Hub(url="mqtts://hub.local"), tmp_path).find()
        assert way.tls is not None
        assert len(way.tls.get_ca_certs()) == 1
        (tmp_path / "key.pem").write_text("nonsense")
        with pytest.raises(Trouble, match=r"key.pem.*roomtone hub join"):
            await Wayfinder(Hub(url="mqtts://hub.local"), tmp_path).find()
        (tmp_path / "ca.pem").write_text("nonsense")
        with pytest.raises(Trouble, match=r"ca.pem.*roomtone hub join"):
            await Wayfinder(Hub(url="mqtts://hub.local"), tmp_path).find()

    run(scenario())


@given(st.text(max_size=100), st.text(min_size=1, max_size=60))
def test_any_home_can_be_announced(home: str, name: str) -> None:
    made = record(Service(HUB, f"Roomtone {home}", 8883, {"home": home[:60]}, f"{name}.local."), "127.0.0.1")
    assert made.name.endswith(f".{HUB}")
