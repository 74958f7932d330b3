"""The link to the broker: what comes and goes over it, what breaks it, and that it comes back by itself."""

from __future__ import annotations

import asyncio
import gc
import getpass
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from broker import MOSQUITTO, Broker, broker, needs_mosquitto
from conftest import Run
from faulty_network import faulty_network
from roomtone import link as link_module
from roomtone import outbound
from roomtone.core.errors import BrokerUnreachable, HubGone, PayloadError, RegistrationError
from roomtone.core.persona import Egress
from roomtone.core.wire import LONGEST, Presence, Reply, State, Stop, Topics, read, write
from roomtone.credentials import key_pem, new_key
from roomtone.flow import beside
from roomtone.hub.authority import BROKER, make_authority
from roomtone.link import Inbound, Link, Take
from roomtone.link import connection as connections
from roomtone.link.outbox import Outbox
from roomtone.link.subscription import DEPTH, Subscription
from roomtone.link.trouble import Trouble, of_code
from roomtone.settings import Hub
from roomtone.store import open_store

__all__ = ["broker"]

TOPICS = Topics("ours")
LINK = "roomtone.link"


@pytest.fixture(autouse=True)
def nothing_is_left_unsaid(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail where asyncio finds a failure that nobody has looked at."""
    yield
    gc.collect()
    records = caplog.get_records("call") + caplog.get_records("teardown")
    assert not [each.getMessage() for each in records if each.name == "asyncio"]


class Seen:
    """What came to a subscriber; ``wait`` until so many did."""

    def __init__(self) -> None:
        self.messages: list[Inbound] = []
        self._more = asyncio.Event()

    async def take(self, message: Inbound) -> None:
        self.messages.append(message)
        self._more.set()

    async def wait(self, count: int) -> list[Inbound]:
        async with asyncio.timeout(20):
            while len(self.messages) < count:
                self._more.clear()
                await self._more.wait()
        return self.messages

    async def until(self, fits: Callable[[], bool]) -> None:
        while not fits():
            await self.wait(len(self.messages) + 1)

    @property
    def payloads(self) -> list[bytes]:
        return [each.payload for each in self.messages]


class Changes:
    """When a link came up and went down."""

    def __init__(self) -> None:
        self.up = asyncio.Event()
        self.down = asyncio.Event()
        self.times_up = 0

    def __call__(self, up: bool) -> None:
        self.times_up += up
        (self.up, self.down)[not up].set()
        (self.down, self.up)[not up].clear()

    async def come(self, up: bool = True) -> None:
        async with asyncio.timeout(20):
            await (self.up if up else self.down).wait()


def link_of(hub: Hub, id_: str, outbox: Outbox | None = None, instance: str = "") -> tuple[Link, Changes]:
    changes = Changes()
    topics = Topics(hub.home)
    at = topics.hub() if id_ == "hub" else topics.device(id_, "presence")
    presence = Presence(id=id_, online=True, room=id_, instance=instance)
    return Link(hub, id_, lambda: presence, at, outbox, changes), changes


@asynccontextmanager
async def linked(hub: Hub, id_: str, outbox: Outbox | None = None, **listens: Take) -> AsyncIterator[Link]:
    """Have a link that is up; ``turn=seen.take`` lets it listen to what all devices tell under that name."""
    link, changes = link_of(hub, id_, outbox)
    for what, take in listens.items():
        link.on(TOPICS.device("+", what), take)
    async with beside(link.run(), id_):
        await changes.come()
        yield link


async def trouble_of(hub: Hub, id_: str) -> str:
    """Return what a link that cannot be has to say."""
    link, _ = link_of(hub, id_)
    with pytest.raises(Trouble) as failed:
        await link._stay()
    assert not link.up
    return str(failed.value)


def refused(told: str, reason: str) -> bool:
    """Say whether a room was told why it was refused, or that it was: a reset may overtake the reason."""
    return reason in told or "may not take this room's certificate" in told


def through(hub: Hub, port: int) -> Hub:
    """Return the settings with another port to connect to."""
    assert hub.url is not None
    return hub.model_copy(update={"url": f"{hub.url.rpartition(':')[0]}:{port}"})


# ------------------------------------------------------------------------------------ coming and going


def test_a_message_comes_to_who_listens_with_all_that_it_takes_to_answer(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scenario() -> None:
        seen = Seen()
        topic, back = TOPICS.device("kitchen", "command"), TOPICS.device("kitchen", "reply")
        kitchen, changes = link_of(broker.hub("kitchen"), "kitchen")
        kitchen.on(topic, seen.take)
        async with linked(broker.hub("hub"), "hub") as hub, beside(kitchen.run(), "kitchen"):
            await changes.come()
            await hub.publish(topic, Stop(id="one"), response_topic=back, correlation=b"7")
            [message] = await seen.wait(1)
            assert (message.topic, message.retained) == (topic, False)
            assert (message.response_topic, message.correlation) == (back, b"7")
            assert read(Stop, message.payload).id == "one"

    run_in_real_time(scenario())


async def ask_kitchen(hub: Link, payload: Stop, within_s: float = 5.0) -> Reply:
    topic, back = TOPICS.device("kitchen", "command"), TOPICS.device("kitchen", "reply")
    return await hub.ask(topic, payload, response_topic=back, within_s=within_s)


@asynccontextmanager
async def kitchen_that_answers(hub: Hub, refuse: str = "") -> AsyncIterator[Link]:
    link, changes = link_of(hub, "kitchen")

    async def answer(message: Inbound) -> None:
        command = read(Stop, message.payload)
        await link.answer(message, Reply(of=command.id, ok=command.id != refuse), TOPICS.device("kitchen", "reply"))

    link.on(TOPICS.device("kitchen", "command"), answer)
    async with beside(link.run(), "kitchen"):
        await changes.come()
        yield link


def test_many_questions_at_a_time_each_get_their_own_answer(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scenario() -> None:
        async with linked(broker.hub("hub"), "hub") as hub, kitchen_that_answers(broker.hub("kitchen"), refuse="n-7"):
            async with asyncio.TaskGroup() as group:
                asked = [group.create_task(ask_kitchen(hub, Stop(id=f"n-{number}"))) for number in range(50)]
            assert [each.result().of for each in asked] == [f"n-{number}" for number in range(50)]
            assert [each.result().of for each in asked if not each.result().ok] == ["n-7"]

    run_in_real_time(scenario())


def test_who_subscribes_while_connected_gets_what_the_broker_keeps(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scenario() -> None:
        async with linked(broker.hub("kitchen"), "kitchen"), linked(broker.hub("hub"), "hub") as hub:
            seen = Seen()
            hub.on(TOPICS.device("kitchen", "presence"), seen.take)
            [kept] = await seen.wait(1)
            assert kept.retained
            assert read(Presence, kept.payload).online

    run_in_real_time(scenario())


def test_what_one_sent_oneself_stays_away_from_who_does_not_want_it(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scenario() -> None:
        own, all_ = Seen(), Seen()
        hub, changes = link_of(broker.hub("hub"), "hub")
        hub.on(TOPICS.device("+", "reply"), own.take, no_local=True)
        hub.on(TOPICS.device("+", "audio"), all_.take)
        async with beside(hub.run(), "hub"), linked(broker.hub("attic"), "attic") as attic:
            await changes.come()
            for what in ("reply", "audio"):
                await hub.publish(TOPICS.device("attic", what), Stop(id="hub"))
                await attic.publish(TOPICS.device("attic", what), Stop(id="attic"))
            assert [read(Stop, each.payload).id for each in await all_.wait(2)] == ["hub", "attic"]
            assert [read(Stop, each.payload).id for each in await own.wait(1)] == ["attic"]

    run_in_real_time(scenario())


def test_a_question_and_its_answer_do_not_wait_for_each_other_s_packets_to_fill(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scenario() -> None:
        async with linked(broker.hub("kitchen"), "kitchen") as kitchen:
            assert kitchen._connection is not None
            sock = kitchen._connection._client.socket()
            assert sock is not None
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run_in_real_time(scenario())


def test_a_question_that_nobody_answers_ends_in_time(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scenario() -> None:
        async with linked(broker.hub("hub"), "hub") as hub:
            with pytest.raises(HubGone, match="no answer"):
                await ask_kitchen(hub, Stop(), within_s=0.1)
            assert not hub._asked

    run_in_real_time(scenario())


def test_nobody_else_can_answer_a_question(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scenario() -> None:
        async with linked(broker.hub("attic"), "attic") as attic:
            kitchen, changes = link_of(broker.hub("kitchen"), "kitchen")

            async def let_the_attic_answer(asked: Inbound) -> None:
                topic = TOPICS.device("attic", "reply")
                await attic.publish(topic, Reply(of="stop"), correlation=asked.correlation)

            kitchen.on(TOPICS.device("kitchen", "command"), let_the_attic_answer)
            seen = Seen()
            async with beside(kitchen.run(), "kitchen"), linked(broker.hub("hub"), "hub", reply=seen.take) as hub:
                await changes.come()
                with pytest.raises(HubGone):
                    await ask_kitchen(hub, Stop(id="stop"), within_s=0.5)
                await seen.wait(1)

    run_in_real_time(scenario())


def test_an_answer_goes_to_no_topic_but_one_for_replies(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scenario() -> None:
        seen, trapped = Seen(), Seen()
        async with linked(broker.hub("hub"), "hub", reply=seen.take, command=trapped.take) as hub:
            trap = TOPICS.device("kitchen", "command")
            asked = Inbound(TOPICS.device("attic", "request"), b"", False, trap, b"1", 0.0)
            await hub.answer(asked, Reply(of="x"), TOPICS.device("attic", "reply"))
            [answer] = await seen.wait(1)
            assert (answer.topic, answer.correlation) == (TOPICS.device("attic", "reply"), b"1")
            assert not trapped.messages

    run_in_real_time(scenario())


def test_a_room_is_told_to_be_there_and_to_have_gone(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scenario() -> None:
        seen = Seen()
        async with linked(broker.hub("hub"), "hub", presence=seen.take):
            async with linked(broker.hub("kitchen"), "kitchen"):
                await seen.wait(1)
            last = (await seen.wait(2))[-1]
            assert [read(Presence, each).online for each in seen.payloads] == [True, False]
            assert not last.retained

    run_in_real_time(scenario())


def test_a_room_that_is_gone_without_a_word_is_told_to_be_away_but_not_one_that_comes_back_at_once(
    broker: Broker, run_in_real_time: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        seen = Seen()
        async with (
            faulty_network(broker.port) as network,
            linked(broker.hub("hub"), "hub", presence=seen.take),
        ):
            kitchen, changes = link_of(through(broker.hub("kitchen"), network.port), "kitchen")
            async with beside(kitchen.run(), "kitchen"):
                await changes.come()
                await seen.wait(1)
                network.reset()
                await changes.come(up=False)
                await seen.wait(2)
                assert [read(Presence, each).online for each in seen.payloads] == [True, True]
                network.to_port = 1  # nothing listens there
                network.reset()
                await seen.wait(3)
                assert not read(Presence, seen.payloads[-1]).online

    run_in_real_time(scenario())


def test_what_came_while_a_room_was_away_waits_for_it_at_the_broker(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scenario() -> None:
        async with linked(broker.hub("hub"), "hub") as hub:
            async with kitchen_that_answers(broker.hub("kitchen")):
                pass
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(ask_kitchen(hub, Stop(id="late"), within_s=10))
                async with kitchen_that_answers(broker.hub("kitchen")):
                    assert (await asked).of == "late"

    run_in_real_time(scenario())


def test_what_waited_at_the_broker_is_answered_though_it_comes_before_the_connection_is_known_to_stand(
    broker: Broker, run_in_real_time: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = connections.Connection.open

    async def slowly(connection: connections.Connection) -> None:
        await opened(connection)
        await asyncio.sleep(0.3)

    async def scenario() -> None:
        async with linked(broker.hub("hub"), "hub") as hub:
            async with kitchen_that_answers(broker.hub("kitchen")):
                pass
            monkeypatch.setattr(connections.Connection, "open", slowly)
            async with asyncio.TaskGroup() as group:
                asked = group.create_task(ask_kitchen(hub, Stop(id="late"), within_s=10))
                async with kitchen_that_answers(broker.hub("kitchen")):
                    assert (await asked).of == "late"

    run_in_real_time(scenario())


# --------------------------------------------------------------------------------------- a broken way


def test_a_broker_that_is_down_at_the_start_is_found_when_it_comes(
    broker: Broker, run_in_real_time: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        broker.stop()
        link, changes = link_of(broker.hub("kitchen"), "kitchen")
        assert "no broker listens at localhost:" in await trouble_of(broker.hub("kitchen"), "kitchen")
        async with beside(link.run(), "kitchen"):
            with pytest.raises(BrokerUnreachable):
                await link.publish(TOPICS.device("kitchen", "state"), State())
            broker.start()
            await changes.come()
            assert link.health == "ok"

    run_in_real_time(scenario())
    assert len([each for each in caplog.records if "no broker listens" in each.message]) <= 1


def test_what_must_arrive_arrives_once_and_in_order_when_the_broker_is_back(
    broker: Broker, run_in_real_time: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        seen = Seen()
        async with (
            open_store(tmp_path / "roomtone.db") as store,
            linked(broker.hub("hub"), "hub", turn=seen.take),
        ):
            kitchen, changes = link_of(broker.hub("kitchen"), "kitchen", Outbox(store))
            topic = TOPICS.device("kitchen", "turn")
            async with beside(kitchen.run(), "kitchen"):
                await changes.come()
                await kitchen.surely(topic, Stop(id="first"), id_="first")
                await seen.wait(1)
                broker.stop()
                await changes.come(up=False)
                for number in range(30):
                    await kitchen.surely(topic, Stop(id=f"n-{number}"), id_=f"n-{number}")
                broker.start()
                await seen.until(lambda: read(Stop, seen.payloads[-1]).id == "n-29")
                async with asyncio.timeout(10):
                    while await Outbox(store).next() is not None:  # noqa: ASYNC110  # nobody tells of it
                        await asyncio.sleep(0.01)
            ids = list(dict.fromkeys(read(Stop, each).id for each in seen.payloads))  # known ids are dropped
            assert ids == ["first", *(f"n-{number}" for number in range(30))]

    run_in_real_time(scenario())


def test_what_waits_outlives_the_program(broker: Broker, run_in_real_time: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "roomtone.db") as store:
            offline, _ = link_of(broker.hub("kitchen"), "kitchen", Outbox(store))
            await offline.surely(TOPICS.device("kitchen", "turn"), Stop(id="kept"), id_="kept")
        seen = Seen()
        async with (
            open_store(tmp_path / "roomtone.db") as store,
            linked(broker.hub("hub"), "hub", turn=seen.take),
            linked(broker.hub("kitchen"), "kitchen", Outbox(store)),
        ):
            assert read(Stop, (await seen.wait(1))[0].payload).id == "kept"

    run_in_real_time(scenario())


def test_what_the_broker_refuses_for_good_does_not_hold_up_what_waits_behind_it(
    broker: Broker, run_in_real_time: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        seen = Seen()
        async with (
            open_store(tmp_path / "roomtone.db") as store,
            linked(broker.hub("hub"), "hub", turn=seen.take),
            linked(broker.hub("kitchen"), "kitchen", Outbox(store)) as kitchen,
        ):
            with pytest.raises(RegistrationError, match="did not take"):
                await kitchen.publish(TOPICS.device("attic", "turn"), Stop())
            await kitchen.surely(TOPICS.device("attic", "turn"), Stop(id="forged"), id_="forged")
            await kitchen.surely(TOPICS.device("kitchen", "turn"), Stop(id="own"), id_="own")
            assert read(Stop, (await seen.wait(1))[0].payload).id == "own"

    run_in_real_time(scenario())
    assert "what waited for roomtone/v1/ours/device/attic/turn is dropped" in caplog.text


def test_a_cut_cable_is_noticed_and_nobody_waits_for_what_was_on_its_way(
    broker: Broker, run_in_real_time: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_S", 1)
    monkeypatch.setattr(connections, "ANSWER_S", 60.0)

    async def scenario() -> None:
        async with faulty_network(broker.port) as network:
            link, changes = link_of(through(broker.hub("kitchen"), network.port), "kitchen")
            async with beside(link.run(), "kitchen"):
                await changes.come()
                network.cut()
                with pytest.raises(BrokerUnreachable, match="was lost"):
                    await link.publish(TOPICS.device("kitchen", "state"), State())
                await changes.come(up=False)
                network.mend()
                await changes.come()

    run_in_real_time(scenario())


def test_how_far_a_broker_is_whose_name_has_no_dot_is_known_before_anything_goes_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [here])
    monkeypatch.setattr(outbound, "_looked_up", {})
    assert outbound.reach("nas") is Egress.ANY
    asyncio.run(trouble_of(Hub(url="mqtt://nas:1"), "kitchen"))  # asyncio's own threads look up names
    assert outbound.reach("nas") is Egress.NONE


def test_a_listener_that_says_nothing_is_not_waited_for_for_long(
    run_in_real_time: Run[None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "ANSWER_S", 0.05)

    async def scenario() -> None:
        async with faulty_network(1) as network:
            network.cut()
            told = await trouble_of(Hub(url=f"mqtt://127.0.0.1:{network.port}"), "kitchen")
            assert "does not answer; is the hub on" in told

    run_in_real_time(scenario())


def test_a_room_stops_at_once_while_it_connects_to_what_says_nothing(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scenario() -> None:
        async with faulty_network(broker.port) as network:
            network.cut()
            link, _ = link_of(through(broker.hub("kitchen"), network.port), "kitchen")
            async with beside(link.run(), "kitchen"):
                await network.reached.wait()
            assert "broker" in {each.name for each in threading.enumerate()}, "the handshake goes on, nobody waits"

    run_in_real_time(scenario())


def test_over_a_network_that_breaks_again_and_again_all_arrives_in_order_and_nothing_is_left_open(
    broker: Broker, run_in_real_time: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "STEADY_S", 0.0)  # else it would wait longer each time
    topic = TOPICS.device("kitchen", "turn")

    async def scenario() -> None:
        seen = Seen()
        async with (
            open_store(tmp_path / "roomtone.db") as store,
            linked(broker.hub("hub"), "hub", turn=seen.take),
            faulty_network(broker.port) as network,
        ):
            open_before = len(os.listdir("/proc/self/fd"))
            kitchen, changes = link_of(through(broker.hub("kitchen"), network.port), "kitchen", Outbox(store))
            async with beside(kitchen.run(), "kitchen"):
                for number in range(60):
                    if number % 6 == 0:
                        await changes.come()
                        network.reset()
                    await kitchen.surely(topic, Stop(id=str(number)), id_=str(number))
                await seen.until(lambda: read(Stop, seen.payloads[-1]).id == "59")
            ids = list(dict.fromkeys(read(Stop, each).id for each in seen.payloads))
            assert ids == [str(number) for number in range(60)]
            assert network.connections >= 10
            still_closing = 4  # the last connection's, on the network's side
            assert len(os.listdir("/proc/self/fd")) <= open_before + still_closing

    run_in_real_time(scenario())


def test_a_slow_network_is_no_broken_one(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scenario() -> None:
        async with faulty_network(broker.port) as network, kitchen_that_answers(broker.hub("kitchen")):
            network.delay_s = 0.05
            async with linked(through(broker.hub("attic"), network.port), "attic") as attic:
                for _ in range(3):
                    await attic.publish(TOPICS.device("attic", "state"), State())
                assert attic.up
            assert network.connections == 1

    run_in_real_time(scenario())


class Scripted(Link):
    """A link whose connections last so long, and end so."""

    def __init__(self, lasts_s: float, trouble: Trouble | None = None) -> None:
        super().__init__(Hub(url="mqtt://nowhere"), "kitchen", lambda: Presence(id="kitchen", online=True), "p")
        self.lasts_s, self.trouble = lasts_s, trouble or Trouble("it was lost")
        self.tries = 0

    async def _stay(self) -> Trouble:
        self.tries += 1
        await asyncio.sleep(self.lasts_s)
        return self.trouble


@pytest.mark.parametrize(
    ("lasts_s", "at_least", "at_most", "told"),
    [
        pytest.param(0.0, 100, 200, 1, id="a broker that is off for an hour"),
        pytest.param(1.0, 100, 200, 1, id="a broker that flaps for an hour"),
        pytest.param(60.0, 55, 60, 1, id="a broker that is lost each minute is sought at once"),
        pytest.param(700.0, 6, 6, 5, id="a broker that is lost now and then is news each time"),
    ],
)
def test_tries_are_neither_many_nor_few(
    lasts_s: float, at_least: int, at_most: int, told: int, run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        link = Scripted(lasts_s)
        async with beside(link.run(), "kitchen"):
            await asyncio.sleep(3600)
        assert at_least <= link.tries <= at_most

    run(scenario())
    assert len(caplog.records) == told


def test_whatever_fails_in_a_connection_the_next_one_is_tried(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Scripted):
        async def _stay(self) -> Trouble:
            if self.tries < 20:
                self.tries += 1
                raise ValueError("what a library thought of")
            self.health = "ok"
            return await super()._stay()

    async def scenario() -> None:
        link = Broken(7200.0)
        async with beside(link.run(), "kitchen"):
            await asyncio.sleep(60)
            assert "what a library thought of" in link.health
            await asyncio.sleep(3600)
            assert link.health == "ok"

    run(scenario())
    assert caplog.text.count("Traceback") == 1


def test_two_rooms_of_one_name_do_not_wear_the_broker_out(run: Run[None]) -> None:
    async def scenario() -> None:
        link = Scripted(11.0, Trouble("another device is called kitchen", wait_s=30.0))
        async with beside(link.run(), "kitchen"):
            await asyncio.sleep(3600)
        assert link.tries <= 3600 / 41

    run(scenario())


# ------------------------------------------------------------------------------------ who may not come


def test_of_two_rooms_with_one_id_each_finds_the_other_in_what_the_broker_keeps(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scenario() -> None:
        seen = Seen()
        one, changes = link_of(broker.hub("kitchen"), "kitchen", instance="one")
        other, others = link_of(broker.hub("kitchen"), "kitchen", instance="other")
        one.on(TOPICS.device("kitchen", "presence"), seen.take)
        async with beside(one.run(), "one"):
            await changes.come()
            async with beside(other.run(), "other"):
                await others.come()
                await changes.come(up=False)
                await changes.come()
                assert "other" in [read(Presence, each).instance for each in seen.payloads]

    run_in_real_time(scenario())


def test_a_broker_that_says_why_it_throws_a_room_out_is_understood() -> None:
    told = of_code(0x8E, "hub.local:8883", "kitchen")
    assert str(told) == "another device is called kitchen; give each its own device.id"
    assert told is not None
    assert told.wait_s >= 30
    for code in (0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8B, 0x95, 0x97, 0x9F):
        assert "hub.local:8883" in str(of_code(code, "hub.local:8883", "kitchen"))
    assert of_code(0x80, "hub.local:8883", "kitchen") is None, "an unspecified error tells nothing"


def test_a_room_of_another_house_is_told_so_on_either_side(
    broker: Broker, run_in_real_time: Run[None], tmp_path: Path
) -> None:
    other = make_authority(tmp_path / "other", "theirs")
    key, cert = other.pair("kitchen")
    (tmp_path / "key.pem").write_bytes(key)
    (tmp_path / "cert.pem").write_bytes(cert)
    ours = broker.hub("kitchen")
    forged = ours.model_copy(update={"key": tmp_path / "key.pem", "cert": tmp_path / "cert.pem"})
    deceived = ours.model_copy(update={"ca": tmp_path / "other" / "ca.pem"})

    async def scenario() -> None:
        assert refused(await trouble_of(forged, "kitchen"), "does not know this room's certificate")
        assert "is of another house; join the house again" in await trouble_of(deceived, "kitchen")

    run_in_real_time(scenario())


def test_certificates_that_have_expired_are_named_with_the_time_that_the_clock_tells(
    broker: Broker, run_in_real_time: Run[None], tmp_path: Path
) -> None:
    past = datetime.now(UTC) - timedelta(days=1)
    key = new_key()
    wish = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kitchen")]))
    csr = wish.sign(key, SHA256()).public_bytes(Encoding.PEM)
    (tmp_path / "key.pem").write_bytes(key_pem(key))
    (tmp_path / "cert.pem").write_bytes(broker.authority.issue(csr, "kitchen", until=past))
    hub = broker.hub("attic").model_copy(update={"key": tmp_path / "key.pem", "cert": tmp_path / "cert.pem"})

    async def scenario() -> None:
        told = await trouble_of(hub, "kitchen")
        assert refused(told, "this room's certificate has expired (its clock says 20")
        serve_until(broker, past)
        told = await trouble_of(broker.hub("attic"), "attic")
        assert "has expired (this machine's clock says 20" in told

    run_in_real_time(scenario())


def serve_until(broker: Broker, end: datetime) -> None:
    """Give the broker a certificate that ends at a moment."""
    key = new_key()
    public = key.public_key()
    assert isinstance(public, EllipticCurvePublicKey)
    cert = broker.authority._sign(BROKER, public, ExtendedKeyUsageOID.SERVER_AUTH, ["localhost"], end)
    broker.stop()
    (broker.folder / "mosquitto" / "server.key").write_bytes(key_pem(key))
    (broker.folder / "mosquitto" / "server.pem").write_bytes(cert)
    broker.start()


def test_a_room_that_was_shut_out_without_a_certificate_or_by_the_wrong_name_is_told_so(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    hub = broker.hub("kitchen")
    bare = hub.model_copy(update={"cert": None, "key": None})
    elsewhere = hub.model_copy(update={"url": f"mqtts://127.0.0.2:{broker.port}"})
    unencrypted = hub.model_copy(update={"url": f"mqtt://localhost:{broker.port}"})
    unknown = hub.model_copy(update={"url": "mqtts://nowhere.invalid:8883"})
    nameless = hub.model_copy(update={"url": "mqtts://..:8883"})
    absent = hub.model_copy(update={"cert": broker.folder / "absent.pem"})

    async def scenario() -> None:
        assert refused(await trouble_of(bare, "kitchen"), "asks for a certificate")
        assert "is for another name" in await trouble_of(elsewhere, "kitchen")
        assert "mqtt or mqtts as hub.url says" in await trouble_of(unencrypted, "kitchen")
        assert "is not known here" in await trouble_of(unknown, "kitchen")
        assert "is not known here" in await trouble_of(nameless, "kitchen")
        assert "absent.pem" in await trouble_of(absent, "kitchen")
        broker.authority.revoke("kitchen")
        broker.reload()
        broker.stop()
        broker.start()
        assert refused(await trouble_of(hub, "kitchen"), "this room's certificate was revoked")

    run_in_real_time(scenario())


@pytest.fixture
def with_passwords(tmp_path: Path) -> Iterator[str]:
    """Have a broker that a household runs already, by user and password and without TLS; its URL."""
    needs_mosquitto()
    tool = shutil.which("mosquitto_passwd")
    assert MOSQUITTO is not None
    assert tool is not None, "it comes with mosquitto"
    passwords = tmp_path / "passwords"
    passwords.touch(0o600)
    subprocess.run([tool, "-b", passwords, "me", "right"], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    lines = (f"listener {port} 127.0.0.1", f"password_file {passwords}", f"user {getpass.getuser()}")
    config.write_text("\n".join((*lines, "max_packet_size 4000")) + "\n")
    with subprocess.Popen([MOSQUITTO, "-c", config], stderr=subprocess.DEVNULL) as process:
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.kill()


def test_a_broker_with_passwords_is_told_them_and_a_wrong_one_is_told_of(
    with_passwords: str, run_in_real_time: Run[None]
) -> None:
    def hub(url: str, **more: Any) -> Hub:
        return Hub.model_validate({"url": url, "home": "ours", **more})

    async def scenario() -> None:
        plain = f"mqtt://{with_passwords}"
        for right in (hub(f"mqtt://me:right@{with_passwords}"), hub(plain, username="me", password="right")):
            async with linked(right, "kitchen") as link:
                assert link.health == "ok"
                await link.publish(TOPICS.device("kitchen", "turn"), bytes(3000))
                with pytest.raises(PayloadError, match="the broker takes 3488"):
                    await link.publish(TOPICS.device("kitchen", "turn"), bytes(3600))
                assert link.up
        for wrong in (hub(plain), hub(plain, username="me", password="wrong")):
            assert "does not let kitchen in (user, password or certificate)" in await trouble_of(wrong, "kitchen")
        assert "mqtt or mqtts as hub.url says" in await trouble_of(hub(f"mqtts://{with_passwords}"), "kitchen")

    run_in_real_time(scenario())


# --------------------------------------------------------------------------------- what is no message


def test_a_payload_of_five_megabytes_is_neither_sent_nor_read(
    broker: Broker, run_in_real_time: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        topic = TOPICS.device("kitchen", "turn")
        seen = Seen()
        async with (
            linked(broker.hub("hub"), "hub", turn=seen.take) as hub,
            linked(broker.hub("kitchen"), "kitchen") as kitchen,
        ):
            with pytest.raises(PayloadError, match="takes 262144"):
                await kitchen.publish(topic, bytes(5 * 1024 * 1024))
            hub._take(message(topic, bytes(LONGEST + 1)))
            await kitchen.publish(topic, Stop(id="after"))
            assert read(Stop, (await seen.wait(1))[0].payload).id == "after"

    run_in_real_time(scenario())
    assert "is too long, and is dropped" in caplog.text


def test_who_sends_five_megabytes_past_the_rules_is_thrown_out_and_nobody_else_is_hurt(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scenario() -> None:
        seen = Seen()
        async with linked(broker.hub("hub"), "hub", turn=seen.take) as hub:
            async with linked(broker.hub("attic"), "attic") as attic:
                connection = attic._connection
                assert connection is not None
                connection._longest = 10**9
                with pytest.raises(BrokerUnreachable):
                    await connection.send(TOPICS.device("attic", "turn"), bytes(5 * 1024 * 1024), 1, False)
            async with linked(broker.hub("kitchen"), "kitchen") as kitchen:
                await kitchen.publish(TOPICS.device("kitchen", "turn"), Stop(id="after"))
                assert read(Stop, (await seen.wait(1))[0].payload).id == "after"
            assert hub.up

    run_in_real_time(scenario())


def message(topic: str, payload: bytes, qos: int = 1) -> Any:
    from paho.mqtt.client import MQTTMessage
    from paho.mqtt.packettypes import PacketTypes
    from paho.mqtt.properties import Properties

    made = MQTTMessage(1, topic.encode())
    made.payload, made.qos, made.properties = payload, qos, Properties(PacketTypes.PUBLISH)
    return made


def test_garbage_and_a_subscriber_that_fails_end_neither_the_link_nor_what_comes_after(
    broker: Broker, run_in_real_time: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        heard: list[str] = []
        done = asyncio.Event()

        async def take(inbound: Inbound) -> None:
            heard.append(read(Stop, inbound.payload).id)
            done.set()

        async with (
            linked(broker.hub("hub"), "hub", turn=take) as hub,
            linked(broker.hub("kitchen"), "kitchen") as kitchen,
        ):
            for payload in (b"\xff\xfe{", b"", b"[]", b"null", write(Stop(id="good"))):
                await kitchen.publish(TOPICS.device("kitchen", "turn"), payload)
            async with asyncio.timeout(10):
                await done.wait()
            assert heard == ["good"]
            assert hub.up

    run_in_real_time(scenario())
    assert "could not be dealt with" in caplog.text


def test_of_many_messages_that_are_no_good_one_line_is_said(run: Run[None], caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async def take(inbound: Inbound) -> None:
            read(Stop, inbound.payload)

        link = Scripted(3600.0)
        link.on("a/+", take)
        async with beside(link.run(), "kitchen"):
            for number in range(100):
                link._take(message("a/b", str(number).encode(), qos=1))
            await asyncio.sleep(1)

    run(scenario())
    assert caplog.text.count("could not be dealt with") == 1
    assert "Traceback" not in caplog.text


def test_a_slow_subscriber_keeps_nobody_else_waiting_and_loses_the_oldest_that_was_of_no_promise(
    run: Run[None], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        free = asyncio.Event()
        slow, quick = Seen(), Seen()

        async def hesitate(inbound: Inbound) -> None:
            await free.wait()
            await slow.take(inbound)

        link = Scripted(3600.0)
        link.on("a/+", hesitate)
        link.on("a/#", quick.take)
        async with beside(link.run(), "kitchen"):
            await asyncio.sleep(0)
            for number in range(DEPTH + 50):
                link._take(message("a/b", str(number).encode(), qos=number % 2))
                await asyncio.sleep(0)
            await asyncio.sleep(1)
            assert len(quick.messages) == DEPTH + 50
            free.set()
            await asyncio.sleep(1)
        lost = {str(number).encode() for number in range(DEPTH + 50)} - set(slow.payloads)
        assert lost
        assert all(int(each) % 2 == 0 for each in lost)
        assert slow.payloads == sorted(slow.payloads, key=int)

    run(scenario())
    assert caplog.text.count("faster than it is worked off") == 1


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("a/+/c", "a/b/c", True),
        ("a/+/c", "a/b/c/d", False),
        ("a/#", "a/b/c", True),
        ("a/#", "a", True),
        ("a/#", "b/a", False),
        ("$share/hub/a/+", "a/b", True),
        ("#", "a/b", True),
        ("a/b", "a/B", False),
    ],
)
def test_a_filter_fits_what_the_broker_means_by_it(pattern: str, topic: str, fits: bool) -> None:
    async def nothing(_: Inbound) -> None: ...

    assert Subscription(pattern, nothing, False).matches(topic) is fits


def test_without_its_library_a_room_is_told_what_installs_it(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "aiomqtt", None)
    monkeypatch.delitem(sys.modules, "roomtone.link.connection")

    async def scenario() -> None:
        link, _ = link_of(Hub(url="mqtts://hub.local:8883", home="ours"), "kitchen")
        await link.run()
        assert link.health == "the Python package aiomqtt is not installed; run: pip install 'roomtone[hub]'"

    run(scenario())
    assert "roomtone[hub]" in caplog.text
