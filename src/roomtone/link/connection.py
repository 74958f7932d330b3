"""One connection to the house's broker: how it is made, what comes over it, and why it ended.

aiomqtt brings paho's client to the event loop. Its hooks are taken here, since it drops what they tell: why the
broker did not take a message, that a connection ended before it stood, and that nothing more can come for who waits.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiomqtt import Client, MqttCodeError, MqttError, ProtocolVersion, Will
from paho.mqtt.client import MQTT_ERR_SUCCESS, MQTTMessage
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from roomtone.core.errors import BrokerUnreachable, PayloadError, RegistrationError
from roomtone.core.wire import LONGEST
from roomtone.flow import worker
from roomtone.link import trouble
from roomtone.link.trouble import Trouble

KEEPALIVE_S = 5
"""A broker that was silent for so long is asked for a sign of life, and given up after as long again."""

ANSWER_S = 5.0
"""Longest that the broker takes to let in, or to confirm what was sent."""

GOODBYE_S = 1.0
"""Longest that a connection takes to end in good order."""

WILL_DELAY_S = 2
"""Of who is back within this, nobody is told that they were away."""

COMING = 100
"""Messages that may come unconfirmed at a time (receive maximum)."""

GOING = 10
"""Messages that may go unconfirmed at a time: few, since paho does not heed how many a broker takes."""

ENVELOPE = 8 * 1024
"""Bytes that a topic and properties may add to a payload."""

HEADER = 512
"""Bytes that they add to it here at most: topics have two ids of 64 at the longest, and an answer's has as much."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a broker is (``tls`` None: not encrypted), and as whom it is spoken to."""

    host: str
    port: int
    tls: NamedContext | None = None
    username: str | None = None
    password: str | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LastWill:
    """What the broker publishes, retained, when a client has gone without a word."""

    topic: str
    payload: bytes


class NamedContext(ssl.SSLContext):
    """A TLS context that knows which ``name`` the certificate must be for, whatever address was dialled.

    The last socket is kept, since paho leaves one open whose handshake failed.
    """

    name: str | None = None
    last: ssl.SSLSocket | None = None

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Wrap a socket as any context does."""
        if self.name is not None:
            options["server_hostname"] = self.name
        self.last = super().wrap_socket(*args, **options)
        return self.last


@asynccontextmanager
async def connected(
    way: Way, client_id: str, will: LastWill, taken: Callable[[MQTTMessage], None], session_s: int
) -> AsyncIterator[Connection]:
    """Be connected for as long as the context lasts; ``taken`` is called on the loop with what comes.

    ``session_s``: so long the broker keeps what comes while this client is away.

    Raises Trouble where the broker cannot be reached, or does not let this client in.
    """
    connection = Connection(way, client_id, will, taken, session_s)
    try:
        await connection.open()
        yield connection
    finally:
        await connection.close()


class Connection(Client):
    """A connection of aiomqtt's that says why it ended, and lets nobody wait for what can no longer come."""

    def __init__(
        self, way: Way, client_id: str, will: LastWill, taken: Callable[[MQTTMessage], None], session_s: int
    ) -> None:
        self._said = _LastWords()
        super().__init__(
            way.host,
            way.port,
            username=way.username,
            password=way.password,
            identifier=client_id,
            protocol=ProtocolVersion.V5,
            clean_start=False,
            keepalive=KEEPALIVE_S,
            timeout=ANSWER_S,
            tls_context=way.tls,
            max_inflight_messages=GOING,
            will=Will(will.topic, will.payload, 1, True, _properties(PacketTypes.WILLMESSAGE, _WILL)),
            properties=_properties(PacketTypes.CONNECT, {**_SESSION, "SessionExpiryInterval": session_s}),
            logger=self._said,
        )
        self._way = way
        self._taken = taken
        self._longest = LONGEST
        self._loop_thread = threading.get_ident()
        self._gate = threading.Lock()
        self._given_up = self._opened = self._stood = False
        self._tried = asyncio.Event()
        self._acks: dict[int, asyncio.Future[ReasonCode]] = {}

    # --------------------------------------------------------------------------------- beginning and end

    async def open(self) -> None:
        """Connect, on a thread of its own: looking up a name cannot be ended. Raises Trouble."""
        with worker("broker") as thread:
            try:
                await thread.call(self._client_connect)
            except (OSError, ValueError) as error:  # ValueError: a name that no network could know
                raise trouble.of_failure(error, str(self._way)) from None
        await asyncio.wait([self._connected], timeout=ANSWER_S)
        if not self._connected.done():
            raise trouble.silent(str(self._way))
        if not _seen(self._connected):
            raise self._trouble(self._connected.exception())
        self._stood = True
        self._disconnected.add_done_callback(self._stop_waiting)

    async def lost(self) -> Trouble:
        """Wait until the connection has ended, and say why."""
        await asyncio.wait([self._disconnected])
        return self._trouble(self._disconnected.exception())

    async def close(self) -> None:
        """Disconnect where still connected, and leave nothing behind: no socket and no task.

        What connects on its thread yet is not waited for: it finds out as soon as it could go on.
        """
        with self._gate:
            self._given_up = True
        if self._opened and not self._tried.is_set():
            await self._tried.wait()
        if self._stands() and self._client.disconnect() == MQTT_ERR_SUCCESS:
            await asyncio.wait([self._disconnected], timeout=GOODBYE_S)
        self._client._sock_close()  # noqa: SLF001  # paho has no other way that does not wait for the network
        if self._misc_task is not None:
            self._misc_task.cancel()
            await asyncio.wait([self._misc_task])
        _seen(self._connected)
        _seen(self._disconnected)

    def _stands(self) -> bool:
        return self._connected.done() and _seen(self._connected) and not self._disconnected.done()

    def _client_connect(self) -> None:
        try:
            super()._client_connect()
        except BaseException:
            if self._way.tls is not None and self._way.tls.last is not None:
                self._way.tls.last.close()
            raise
        finally:
            with self._gate:
                if self._opened:
                    self._loop.call_soon_threadsafe(self._tried.set)

    def _on_socket_open(self, client: Any, userdata: Any, sock: Any) -> None:
        with self._gate:
            if self._given_up:
                sock.close()
                raise ConnectionAbortedError("given up before it stood")
            self._opened = True
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else a question and its answer wait 40 ms each
        super()._on_socket_open(client, userdata, sock)

    def _on_socket_register_write(self, _client: Any, _userdata: Any, sock: Any) -> None:
        if threading.get_ident() == self._loop_thread:
            self._await_writing(sock)
        else:
            self._loop.call_soon_threadsafe(self._await_writing, sock)

    def _await_writing(self, sock: Any) -> None:
        if sock.fileno() >= 0:  # else it was closed meanwhile, and the number it had may be another's
            self._loop.add_writer(sock.fileno(), self._write)

    def _write(self) -> None:
        try:
            self._client.loop_write()
        except Exception as error:  # the connection is broken, whatever a library raises at that
            if not self._disconnected.done():
                self._disconnected.set_exception(error)

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, properties: Any = None) -> None:
        self._longest = min(LONGEST, getattr(properties, "MaximumPacketSize", LONGEST + HEADER) - HEADER)
        super()._on_connect(client, userdata, flags, reason, properties)

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: ReasonCode, *rest: Any) -> None:
        if not self._connected.done():  # a broker that closes without an answer: aiomqtt would wait for one
            self._connected.set_exception(MqttCodeError(reason))
        super()._on_disconnect(client, userdata, flags, reason, *rest)

    def _stop_waiting(self, _: object) -> None:
        for ack in self._acks.values():
            if not ack.done():
                ack.set_exception(BrokerUnreachable(str(trouble.lost(str(self._way)))))

    # -------------------------------------------------------------------------------- what goes and comes

    async def send(
        self, topic: str, payload: bytes, qos: int, retain: bool, properties: dict[str, Any] | None = None
    ) -> None:
        """Publish; returns when the broker has it (qos 1).

        Raises BrokerUnreachable, RegistrationError where the broker refuses it, PayloadError where it is too long.
        """
        if len(payload) > self._longest:
            raise PayloadError(f"{len(payload)} bytes are too long for {topic}; the broker takes {self._longest}")
        info = self._client.publish(topic, payload, qos, retain, _properties(PacketTypes.PUBLISH, properties))
        if info.rc != MQTT_ERR_SUCCESS:
            raise BrokerUnreachable(str(trouble.lost(str(self._way))))
        if qos == 0 or info.is_published():
            return
        ack = self._acks[info.mid] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_S):
                reason = await ack
        except TimeoutError:
            raise BrokerUnreachable(str(trouble.silent(str(self._way)))) from None
        finally:
            del self._acks[info.mid]
        if reason.is_failure:
            raise RegistrationError(
                f"the broker did not take what was sent to {topic}: {reason}; "
                "if device.id was changed, set it back, or join the house again: roomtone hub join"
            )

    async def listen(self, filters: Sequence[tuple[str, bool]]) -> list[str]:
        """Subscribe to filters, each with whether one's own messages stay away; return those that were refused.

        Raises BrokerUnreachable.
        """
        wanted = [(each, SubscribeOptions(qos=1, noLocal=no_local)) for each, no_local in filters]
        try:
            reasons = await self.subscribe(wanted) if wanted else []
        except MqttError as error:
            raise BrokerUnreachable(str(self._trouble(error))) from None
        return [each for (each, _), reason in zip(filters, reasons, strict=True) if _is_failure(reason)]

    def _on_message(self, _client: Any, _userdata: Any, message: MQTTMessage) -> None:
        self._taken(message)

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, reason: ReasonCode, *_: Any) -> None:
        ack = self._acks.get(mid)
        if ack is not None and not ack.done():
            ack.set_result(reason)

    # ----------------------------------------------------------------------------------- what was wrong

    @property
    def _encrypted(self) -> bool:
        return self._way.tls is not None

    def _trouble(self, error: BaseException | None) -> Trouble:
        broker, words = str(self._way), self._said.text
        if isinstance(error, MqttCodeError):
            code = error.rc.value if isinstance(error.rc, ReasonCode) else -1
            meaning = trouble.of_code(code, broker, self.identifier) or trouble.of_words(words, broker)
            return meaning or (trouble.lost(broker) if self._stood else trouble.closed(broker, tls=self._encrypted))
        if isinstance(error, OSError):
            return trouble.of_failure(error, broker, tls=self._encrypted and not self._stood)
        return trouble.silent(broker) if error is not None else trouble.lost(broker)


class _LastWords(logging.Logger):
    """Keeps the last error that paho logs: of a TLS alert it tells in no other way."""

    def __init__(self) -> None:
        super().__init__("paho", logging.ERROR)
        self.text = ""

    def handle(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.text = record.getMessage()


_WILL = {"WillDelayInterval": WILL_DELAY_S}
_SESSION = {
    "ReceiveMaximum": COMING,
    "MaximumPacketSize": LONGEST + ENVELOPE,
}


def _properties(kind: int, values: dict[str, Any] | None) -> Properties:
    made = Properties(kind)  # type: ignore[no-untyped-call]  # paho leaves its properties without types
    for name, value in (values or {}).items():
        if value is not None:
            setattr(made, name, value)
    return made


def _seen(future: asyncio.Future[None]) -> bool:
    """Say whether a future that is done went well; its failure has then been looked at, and asyncio is quiet."""
    return future.done() and not future.cancelled() and future.exception() is None


def _is_failure(reason: object) -> bool:
    return isinstance(reason, ReasonCode) and reason.is_failure
