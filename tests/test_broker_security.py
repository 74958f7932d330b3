"""The broker as it is shipped: who gets in, and who may read and write what."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker import Broker
from conftest import Run
from roomtone.core.errors import RegistrationError
from roomtone.core.wire import LONGEST, Topics, Where, write
from roomtone.durable import write_durably
from roomtone.flow import beside
from roomtone.hub.authority import make_authority
from roomtone.hub.mosquitto import refresh
from roomtone.hub.serve import open_hub
from roomtone.hub.shutting_out import shut_out
from roomtone.link.connection import Connection, LastWill, connected
from roomtone.link.trouble import Trouble
from roomtone.link.wayfinding import Wayfinder
from roomtone.settings import Hub, Settings

T = Topics("ours")
KINDS = ("presence", "state", "turn", "command", "request", "wake", "reply", "audio")


class Client:
    """Somebody at the broker: what was heard, in order, and a way to speak."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.connection: Connection

    async def may_write(self, topic: str) -> bool:
        try:
            await self.connection.send(topic, b"{}", 1, retain=False)
        except RegistrationError:
            return False
        return True

    async def heard_until(self, topic: str) -> set[str]:
        """Return the topics that were heard before one."""
        heard = set()
        async with asyncio.timeout(10):
            while (one := (await self.heard.get())[0]) != topic:
                heard.add(one)
        return heard


@asynccontextmanager
async def a_client(hub: Hub, name: str, *filters: str) -> AsyncIterator[Client]:
    client = Client()
    will = LastWill("nowhere", b"")
    way = await Wayfinder(hub).find()
    take = client.heard.put_nowait
    async with connected(way, name, will, lambda m: take((m.topic, bytes(m.payload))), 0) as client.connection:
        await client.connection.listen([(each, False) for each in filters])
        yield client


# ------------------------------------------------------------------------------------- the access list


def test_a_device_writes_under_its_own_id_alone(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        async with a_client(broker.hub("kitchen"), "kitchen") as kitchen:
            own = {kind for kind in KINDS if await kitchen.may_write(T.device("kitchen", kind))}
            others = {kind for kind in KINDS if await kitchen.may_write(T.device("bath", kind))}
            assert own == set(KINDS) - {"command"}
            assert others == set()
            assert await kitchen.may_write("homeassistant/device/kitchen/config")
            for topic in (
                "homeassistant/device/bath/config",
                "homeassistant/status",
                T.hub(),
                T.device("kitchen", "state/deeper"),
                Topics("another").device("kitchen", "state"),
                "anything",
            ):
                assert not await kitchen.may_write(topic), topic

    run_in_real_time(scene())


def test_a_device_hears_its_own_commands_and_of_others_presence_and_claims_alone(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    own = [T.device("kitchen", kind) for kind in KINDS]
    others = [T.device("bath", kind) for kind in KINDS]
    filters = ("#", *own, *others, T.device("+", "command"), f"$share/x/{T.device('+', 'state')}", "$SYS/#")

    async def scene() -> None:
        async with (
            a_client(broker.hub("kitchen"), "kitchen", *filters) as kitchen,
            a_client(broker.hub("homeassistant"), "homeassistant") as home_assistant,
            a_client(broker.hub("hub"), "hub") as hub,
        ):
            await home_assistant.connection.send("homeassistant/status", b"online", 1, retain=False)
            for topic in (*others, *own, "homeassistant/device/bath/config", T.hub()):
                await hub.connection.send(topic, b"{}", 1, retain=False)
            heard = await kitchen.heard_until(T.hub())
        allowed = {T.device("kitchen", kind) for kind in ("presence", "wake", "command", "reply", "audio")}
        allowed |= {T.device("bath", kind) for kind in ("presence", "wake")}
        assert heard == {*allowed, "homeassistant/status"}

    run_in_real_time(scene())


def test_home_assistant_commands_devices_and_sees_how_they_stand(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        async with (
            a_client(broker.hub("homeassistant"), "homeassistant", "#") as home_assistant,
            a_client(broker.hub("hub"), "hub") as hub,
        ):
            may = {kind for kind in KINDS if await home_assistant.may_write(T.device("bath", kind))}
            assert may == {"command"}
            for kind in (*KINDS, "presence"):
                await hub.connection.send(T.device("bath", kind), b"{}", 1, retain=False)
            await hub.connection.send("homeassistant/device/bath/config", b"{}", 1, retain=False)
            heard = await home_assistant.heard_until("homeassistant/device/bath/config")
        assert heard == {T.device("bath", kind) for kind in ("presence", "state", "turn")}

    run_in_real_time(scene())


def test_the_hub_reads_and_writes_all_of_the_house(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        everything = [T.shared("+", kind) for kind in KINDS]
        async with (
            a_client(broker.hub("hub"), "hub-1", *everything) as hub,
            a_client(broker.hub("kitchen"), "kitchen") as kitchen,
        ):
            for kind in (kind for kind in KINDS if kind != "command"):
                await kitchen.connection.send(T.device("kitchen", kind), b"{}", 1, retain=False)
            assert await hub.may_write(T.device("kitchen", "command"))
            await hub.heard_until(T.device("kitchen", "audio"))
            assert await hub.may_write(T.hub())

    run_in_real_time(scene())


def test_no_device_makes_requests_of_others_vanish_by_joining_the_hubs_group(
    broker: Broker, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    """Mosquitto 2.0 gives a shared message to one of its group, and drops it where that one may not read it."""
    settings = Settings(state_dir=tmp_path, hub=broker.hub("hub"))
    reply = T.device("bath", "reply")

    async def scene() -> None:
        async with (
            a_client(broker.hub("attic"), "attic", T.shared("+", "request"), T.shared("bath", "request")) as thief,
            a_client(broker.hub("bath"), "bath", reply, T.hub()) as bath,
            open_hub(settings),
        ):
            await bath.heard_until(T.hub())
            for _ in range(6):
                await bath.connection.send(T.device("bath", "request"), write(Where()), 1, retain=False)
            for _ in range(6):
                await bath.heard_until(reply)
            assert thief.heard.empty()

    run_in_real_time(scene())


def test_several_hub_processes_are_there_at_once(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        async with (
            a_client(broker.hub("hub"), "hub-1") as one,
            a_client(broker.hub("hub"), "hub-2") as two,
        ):
            assert await one.may_write(T.hub())
            assert await two.may_write(T.hub())

    run_in_real_time(scene())


def test_no_device_throws_another_out_by_taking_its_name(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        async with (
            a_client(broker.hub("bath"), "bath", T.device("bath", "command")) as bath,
            a_client(broker.hub("attic"), "bath", T.device("bath", "command")) as pretender,
            a_client(broker.hub("hub"), "hub") as hub,
        ):
            await hub.connection.send(T.device("bath", "command"), b"{}", 1, retain=False)
            await hub.connection.send(T.device("attic", "presence"), b"{}", 1, retain=False)
            await bath.heard_until(T.device("bath", "command"))
            assert pretender.heard.empty()
            assert await pretender.may_write(T.device("attic", "state"))
            assert not await pretender.may_write(T.device("bath", "state"))

    run_in_real_time(scene())


def test_no_device_speaks_for_another_by_its_last_will(broker: Broker, run_in_real_time: Run[None]) -> None:
    own, other = (T.device(id_, "presence") for id_ in ("kitchen", "bath"))

    async def scene() -> None:
        async with a_client(broker.hub("hub"), "hub", own, other) as hub:
            for topic in (other, T.device("bath", "command"), own):
                _vanish(broker.hub("kitchen"), topic)
            assert await hub.heard_until(own) == set()

    run_in_real_time(scene())


def _vanish(hub: Hub, will: str) -> None:
    """Connect with a last will, and go without a goodbye."""
    gone = _bare_client(hub, will).socket()
    assert gone is not None
    gone.close()


def _bare_client(hub: Hub, will: str) -> paho.Client:
    """Connect without all that Roomtone does to keep to the rules."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    context = ssl.create_default_context(cafile=str(hub.ca))
    assert hub.cert is not None
    context.load_cert_chain(hub.cert, hub.key)
    client.tls_set_context(context)
    client.will_set(will, b"{}", 1, retain=True)
    client.connect("localhost", urlsplit(hub.url or "").port or 0)
    while not client.is_connected():
        assert client.loop(1.0) == paho.MQTT_ERR_SUCCESS
    return client


# ------------------------------------------------------------------------------------------ certificates


async def refused(hub: Hub, name: str = "kitchen") -> str:
    with pytest.raises(Trouble) as trouble:
        async with a_client(hub, name):
            pass
    return str(trouble.value)


def _pair(folder: Path, hub: Hub, key: bytes, cert: bytes) -> Hub:
    write_durably(folder / "key.pem", key)
    write_durably(folder / "cert.pem", cert)
    return hub.model_copy(update={"cert": folder / "cert.pem", "key": folder / "key.pem"})


def test_who_has_no_certificate_stays_outside(broker: Broker, run_in_real_time: Run[None]) -> None:
    bare = broker.hub("kitchen").model_copy(update={"cert": None, "key": None})
    for hub in (bare, bare.model_copy(update={"username": "hub", "password": None})):
        run_in_real_time(_is_refused(hub, "asks for a certificate"))


def test_who_does_not_speak_tls_stays_outside(broker: Broker, run_in_real_time: Run[None]) -> None:
    for port in (broker.port, broker.hub_port):
        run_in_real_time(_is_refused(Hub(url=f"mqtt://localhost:{port}", home="ours"), ""))


def test_a_certificate_of_another_house_stays_outside(
    broker: Broker, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    foreign = make_authority(tmp_path / "foreign", "theirs")
    for name in ("kitchen", "hub"):
        hub = _pair(tmp_path, broker.hub(name), *foreign.pair(name))
        run_in_real_time(_is_refused(hub, "does not know this room's certificate"))


def test_a_certificate_that_has_expired_stays_outside(
    broker: Broker, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    pair = broker.authority.pair("kitchen", until=datetime.now(UTC) - timedelta(hours=1))
    run_in_real_time(_is_refused(_pair(tmp_path, broker.hub("kitchen"), *pair), "has expired"))


async def _is_refused(hub: Hub, words: str) -> None:
    told = await refused(hub)
    assert words in told or "may not take this room's certificate" in told  # a reset may overtake the reason


def test_a_broker_that_another_authority_has_signed_is_not_trusted(
    broker: Broker, tmp_path: Path, run_in_real_time: Run[None]
) -> None:
    make_authority(tmp_path, "theirs")
    hub = broker.hub("kitchen").model_copy(update={"ca": tmp_path / "ca.pem"})
    run_in_real_time(_is_refused(hub, ""))


def test_no_device_can_pass_for_the_broker(broker: Broker) -> None:
    kitchen = broker.hub("kitchen")
    assert kitchen.cert is not None
    client = ssl.create_default_context(cafile=str(kitchen.ca))
    client.check_hostname = False
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(kitchen.cert, kitchen.key)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = client.wrap_bio(back, there), server.wrap_bio(there, back, server_side=True)
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        for _ in range(4):
            for end in ends:
                _shake(end)


def _shake(end: ssl.SSLObject) -> None:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return


# ------------------------------------------------------------------------------------------- shutting out


def test_a_revoked_device_is_thrown_out_at_once_and_does_not_come_back(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        state, command = T.device("kitchen", "state"), T.device("kitchen", "command")
        async with a_client(broker.hub("kitchen"), "kitchen", command) as kitchen:
            await kitchen.connection.send(state, b"{}", 1, retain=True)
            broker.authority.revoke("kitchen")
            marker = refresh(broker.folder / "mosquitto", broker.authority, "ours")
            async with beside(_reload_later(broker), "systemd"):
                await shut_out(broker.hub("hub"), broker.folder, "kitchen", marker)
            async with asyncio.timeout(5):
                await kitchen.connection.lost()
        assert "was revoked" in await refused(broker.hub("kitchen"))
        async with a_client(broker.hub("hub"), "hub", state, T.device("bath", "state")) as hub:
            await hub.connection.send(T.device("bath", "state"), b"{}", 1, retain=False)
            assert await hub.heard_until(T.device("bath", "state")) == set()

    run_in_real_time(scene())


async def _has_read(broker: Broker, hub: Client) -> None:
    while await hub.may_write(T.hub(f"lists/{broker.authority.number}")):
        assert broker.pid


async def _reload_later(broker: Broker) -> None:
    await asyncio.sleep(0.3)
    broker.reload()
    await asyncio.Event().wait()


def test_a_revoked_device_that_is_connected_can_do_nothing_from_the_moment_the_lists_are_read(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        async with (
            a_client(broker.hub("kitchen"), "kitchen", T.device("kitchen", "command")) as kitchen,
            a_client(broker.hub("hub"), "hub") as hub,
        ):
            assert await kitchen.may_write(T.device("kitchen", "state"))
            broker.authority.revoke("kitchen")
            broker.reload()
            await _has_read(broker, hub)
            assert not await kitchen.may_write(T.device("kitchen", "state"))
            await hub.connection.send(T.device("kitchen", "command"), b"{}", 1, retain=False)
            assert not await kitchen.may_write(T.device("kitchen", "wake"))
            assert kitchen.heard.empty()

    run_in_real_time(scene())


def test_who_shares_the_broker_notices_nothing_of_a_revocation(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        broker.hub("kitchen")
        command = T.device("bath", "command")
        async with (
            a_client(broker.hub("bath"), "bath", command) as bath,
            a_client(broker.hub("hub"), "hub") as hub,
        ):
            broker.authority.revoke("kitchen")
            broker.reload()
            await _has_read(broker, hub)
            assert await bath.may_write(T.device("bath", "state"))
            await hub.connection.send(command, b"{}", 1, retain=False)
            await bath.heard_until(command)

    run_in_real_time(scene())


# ----------------------------------------------------------------------------------------- size and rate


def test_a_payload_as_long_as_may_be_goes_through_and_one_of_5_mb_ends_its_senders_connection_alone(
    broker: Broker, run_in_real_time: Run[None]
) -> None:
    async def scene() -> None:
        audio = T.device("kitchen", "audio")
        async with (
            a_client(broker.hub("kitchen"), "kitchen") as kitchen,
            a_client(broker.hub("bath"), "bath") as bath,
            a_client(broker.hub("hub"), "hub", audio, T.device("attic", "audio")) as hub,
        ):
            await kitchen.connection.send(audio, bytes(LONGEST), 1, retain=False)
            assert len((await hub.heard.get())[1]) == LONGEST
            bare = _bare_client(broker.hub("attic"), "nowhere")
            bare.publish(T.device("attic", "audio"), bytes(5_000_000), 1)
            while bare.loop(1.0) == paho.MQTT_ERR_SUCCESS:
                pass  # it is not asked whether it is connected: told to go, by DISCONNECT, paho says yes for good
            assert "Client attic disconnected due to oversize packet" in broker.log
            assert await bath.may_write(T.device("bath", "state"))
            assert hub.heard.empty()

    run_in_real_time(scene())


def test_a_flood_from_one_device_keeps_no_other_from_its_hub(broker: Broker, run_in_real_time: Run[None]) -> None:
    async def scene() -> None:
        request = T.device("bath", "request")
        async with (
            a_client(broker.hub("kitchen"), "kitchen") as kitchen,
            a_client(broker.hub("bath"), "bath") as bath,
            a_client(broker.hub("hub"), "hub", T.device("+", "request")) as hub,
        ):
            for n in range(3000):
                await kitchen.connection.send(T.device("kitchen", "request"), b"{}", 0, retain=False)
                if n == 1000:
                    assert await bath.may_write(request)
            await hub.heard_until(request)

    run_in_real_time(scene())
