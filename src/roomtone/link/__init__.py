"""The link to the house's broker, a device's or the hub's: it is there or it is not, and comes back by itself."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roomtone import installed, outbound
from roomtone.core.dialog import new_id
from roomtone.core.errors import BrokerUnreachable, HouseError, HubGone, PayloadError, StoreError
from roomtone.core.persona import Egress
from roomtone.core.wire import LONGEST, Payload, Presence, Reply, Topics, read, write
from roomtone.flow import beside, is_cancelled, keep_trying, task_group
from roomtone.link.outbox import Outbox
from roomtone.link.subscription import Inbound, Subscription, Take
from roomtone.link.trouble import Trouble
from roomtone.link.wayfinding import Wayfinder
from roomtone.settings import Hub

if TYPE_CHECKING:
    from roomtone.link.connection import Connection

__all__ = ["Inbound", "Link", "Take"]

log = logging.getLogger(__name__)

SESSION_S = 3600
"""So long the broker keeps what came for a client that is away."""

STEADY_S = 10.0
"""A connection that lasted so long was a good one: after it the waits between two attempts begin anew."""

LONGEST_WAIT_S = 30.0
"""Longest wait between two attempts."""

GOODBYE_S = 1.0
"""Longest that it takes to tell the others that one goes."""

STALE_S = 30.0
"""What waited at the broker while this client was away for longer, or not running, may be of no use any more."""

WAITED_S = 5.0
"""Longest that the broker takes, after a connection, to send what waited there."""

AGAIN_S = 30.0
"""When the disk failed, or the broker did not confirm, the outbox is looked into again after so long."""

ANSWER_KEPT_S = 30
"""An answer that the broker could not deliver for so long is waited for by nobody; it may hold what was said."""

CALM_S = 600.0
"""After a connection that lasted so long, what breaks it is news, and logged again."""


class Link:
    """One client of the broker. ``up`` and ``health`` (``ok``, or what is wrong, and what mends it) tell of it, once
    it was ``tried``.

    ``client_id`` and ``presence`` (retained, ``online`` False as its last will) say who this is. What is subscribed
    with ``on`` is subscribed anew at every connection. ``folder`` holds what joining the house left: ``ca.pem``,
    ``cert.pem`` and ``key.pem``, each taken where ``hub`` names no other. ``session_s``: so long the broker keeps
    what comes while this client is away.
    """

    def __init__(
        self,
        hub: Hub,
        client_id: str,
        presence: Callable[[], Presence],
        presence_topic: str,
        outbox: Outbox | None = None,
        on_change: Callable[[bool], None] = lambda _: None,
        folder: Path | None = None,
        session_s: int = SESSION_S,
    ) -> None:
        self.topics = Topics(hub.home)
        self.up = False
        self.tried = asyncio.Event()
        self.health = "not connected yet"
        self._client_id = client_id
        self._presence = presence
        self._presence_topic = presence_topic
        self._outbox = outbox
        self._owes = outbox is not None
        self._on_change = on_change
        self._session_s = session_s
        self._ways = Wayfinder(hub, folder)
        self._subscriptions: list[Subscription] = []
        self._asked: dict[bytes, tuple[str, asyncio.Future[Reply]]] = {}
        self._more = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._connection: Connection | None = None
        self._early: list[Any] | None = None
        self._told: set[str] = set()
        self._catching_up = True
        self._here_since = self._left_at = 0.0
        self._introduced: bytes | None = None

    @property
    def host(self) -> str:
        """Where the broker is, a name or an address; empty where that was not found yet."""
        return self._ways.host

    @property
    def owes(self) -> bool:
        """Whether something waits in the outbox, or may: what is to come behind it goes ``surely`` too."""
        return self._owes

    # --------------------------------------------------------------------------------------- being there

    async def run(self) -> None:
        """Be connected whenever that is possible, for as long as this runs; say goodbye at the end.

        Returns at once, with the reason in ``health``, where the library that it takes is not installed.
        """
        try:
            import roomtone.link.connection  # noqa: F401  # paho and aiomqtt: a room on its own does without
        except ImportError as error:
            self._is_down(f"the Python package {error.name} is not installed; run: {installed.bringing('hub')}")
            return
        async with task_group() as group:
            self._group = group
            for each in self._subscriptions:
                group.create_task(each.serve(), name=f"serving {each.filter}")
            try:
                while True:
                    await keep_trying(self._once, on=Trouble, longest_s=LONGEST_WAIT_S)
            finally:
                self._group = None

    async def _once(self) -> None:
        """Be connected once, and return when that is over; raise Trouble where it did not last."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            trouble = await self._stay()
        except Trouble as error:
            trouble = error
        except Exception as error:  # whatever a library raises: the next connection may be a good one
            if is_cancelled():
                raise
            trouble = self._failed(error)
        lasted = clock() - began
        if lasted > CALM_S:
            self._told.clear()
        self._ways.failed()
        self._is_down(str(trouble))
        await asyncio.sleep(trouble.wait_s * random.uniform(1, 2))  # spreads load, guards nothing
        if lasted < STEADY_S:
            raise trouble

    def _failed(self, error: Exception) -> Trouble:
        line = f"the link failed ({type(error).__name__}: {error}); it is tried again"
        log.log(logging.DEBUG if line in self._told else logging.ERROR, "where the link failed", exc_info=error)
        return Trouble(line)

    async def _stay(self) -> Trouble:
        """Connect, stay, and return why it ended. Raises Trouble where it did not begin."""
        from roomtone.link.connection import LastWill, connected

        will = LastWill(self._presence_topic, write(self._presence().model_copy(update={"online": False})))
        way = await self._ways.find()
        if outbound.reach(way.host) is Egress.ANY:  # a name without a dot may be one of the house
            await outbound.look_up(way.host)
        clock = asyncio.get_running_loop().time
        self._catching_up |= clock() - self._left_at > STALE_S
        self._here_since, self._introduced = math.inf, None
        self._early = self._early or []
        async with connected(way, self._client_id, will, self._take, self._session_s) as connection:
            self._here_since = clock()
            self._connection = connection  # what waited at the broker comes before all else, and may want an answer
            self._take_early()
            try:
                await self._introduce(connection)
                self._is_up()
                async with beside(self._empty_outbox(), "outbox"):
                    return await connection.lost()
            finally:
                self._connection = None
                self._left_at = clock()
                if self.up:
                    self._change(False)
                if is_cancelled():
                    await self._say_goodbye(connection, will)

    async def _introduce(self, connection: Connection) -> None:
        try:
            # Who sees that this client is there may send it something at once.
            await self._listen(connection, self._subscriptions)
            self._introduced = write(self._presence())
            await connection.send(self._presence_topic, self._introduced, 1, True)
        except HouseError as error:
            raise Trouble(str(error)) from None

    async def _listen(self, connection: Connection, subscriptions: Sequence[Subscription]) -> None:
        for refused in await connection.listen([(each.filter, each.no_local) for each in subscriptions]):
            self._say_once(
                f"the broker does not let {self._client_id} read {refused}; join the house again: roomtone hub join"
            )

    async def _say_goodbye(self, connection: Connection, will: Any) -> None:
        try:
            async with asyncio.timeout(GOODBYE_S):
                await connection.send(will.topic, will.payload, 1, True)
        except (HouseError, TimeoutError) as error:
            log.info("nobody was told that this room goes: %s", error)

    def _is_up(self) -> None:
        self.health = "ok"
        self.tried.set()
        log.info("connected to the broker as %s", self._client_id)
        self._change(True)

    def _is_down(self, why: str) -> None:
        self.health = why
        self.tried.set()
        self._say_once(why)

    def _say_once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            log.warning("%s", line)

    def _change(self, up: bool) -> None:
        self.up = up
        try:
            self._on_change(up)
        except Exception:
            log.exception("who was told that the link is %s failed", "up" if up else "down")

    # ------------------------------------------------------------------------------------------- sending

    async def publish(
        self,
        topic: str,
        payload: Payload | bytes,
        *,
        retain: bool = False,
        qos: int = 1,
        expires_s: int | None = None,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        """Send something now; b"" with ``retain`` takes back what was kept; with ``qos`` 1 the broker has it then.

        Raises BrokerUnreachable, PayloadError for what is too long, RegistrationError where the broker refuses it.
        """
        data = payload if isinstance(payload, bytes) else write(payload)
        if self._connection is None:
            raise BrokerUnreachable(self.health)
        properties = {
            "MessageExpiryInterval": expires_s,
            "ResponseTopic": response_topic,
            "CorrelationData": correlation,
        }
        await self._connection.send(topic, data, qos, retain, properties)

    async def surely(self, topic: str, payload: Payload | bytes, *, id_: str, expires_s: int | None = None) -> None:
        """Send what must arrive: when this returns it is kept in the outbox; it goes once and in order, when it can.

        Raises StoreError; without an outbox, what ``publish`` raises.
        """
        if self._outbox is None:
            await self.publish(topic, payload, expires_s=expires_s)
            return
        data = payload if isinstance(payload, bytes) else write(payload)
        await self._outbox.add(id_, topic, data, expires_s)
        self._owes = True
        self._more.set()

    async def _empty_outbox(self) -> None:
        """Send what waits, and what comes to wait, for as long as this runs."""
        while self._outbox is not None:
            self._more.clear()
            try:
                await self._send_waiting(self._outbox)
            except (BrokerUnreachable, StoreError) as error:
                self._say_once(f"what waits for the broker goes on waiting: {error}")
                await asyncio.sleep(AGAIN_S)
            else:
                self._owes = self._more.is_set()
                await self._more.wait()

    async def _send_waiting(self, outbox: Outbox) -> None:
        while (waiting := await outbox.next()) is not None:
            try:
                await self.publish(waiting.topic, waiting.payload, expires_s=waiting.expires_s)
            except BrokerUnreachable:
                raise
            except HouseError as error:
                log.warning("what waited for %s is dropped: %s", waiting.topic, error)
            await outbox.sent(waiting.number)

    # ---------------------------------------------------------------------------------------- being told

    def on(self, topic_filter: str, take: Take, *, no_local: bool = False) -> Subscription:
        """Let ``take`` have what comes under a filter, one after the other; its failures are logged.

        Also while connected. What comes under two filters goes to both, and may come to each twice. ``no_local``:
        what this client sent itself stays away. Who does not keep up loses the oldest, of quality 0 first.
        """
        made = self._subscribe(topic_filter, take, no_local)
        if self._group is not None and self._connection is not None:
            self._group.create_task(self._listen_now(self._connection, made), name=f"subscribing {topic_filter}")
        return made

    def _subscribe(self, topic_filter: str, take: Take, no_local: bool) -> Subscription:
        made = Subscription(topic_filter, take, no_local and not topic_filter.startswith("$share/"))
        self._subscriptions.append(made)
        if self._group is not None:
            self._group.create_task(made.serve(), name=f"serving {topic_filter}")
        return made

    async def _listen_now(self, connection: Connection, subscription: Subscription) -> None:
        try:
            await self._listen(connection, [subscription])
        except BrokerUnreachable as error:
            log.info("%s is subscribed with the next connection: %s", subscription.filter, error)

    def _take_early(self) -> None:
        early, self._early = self._early, None
        for message in early or ():
            self._take(message)

    def _take(self, message: Any) -> None:
        """Take a message of paho's; on the loop, never waiting."""
        if self._early is not None:  # the connection is not known to stand yet, so that no answer could be sent
            self._early.append(message)
            return
        topic, payload = message.topic, message.payload
        if len(payload) > LONGEST:
            self._say_once(
                f"a payload that came to {topic} is too long, and is dropped: at most {LONGEST} bytes are read"
            )
            return
        response_topic = getattr(message.properties, "ResponseTopic", None)
        correlation = getattr(message.properties, "CorrelationData", None)
        at = asyncio.get_running_loop().time()
        waited = self._has_waited(message, at)
        inbound = Inbound(topic, payload, bool(message.retain), response_topic, correlation, at, waited)
        if correlation is not None and self._is_reply(inbound, correlation):
            return
        for each in self._subscriptions:
            if each.matches(topic):
                each.put(inbound, message.qos)

    def _has_waited(self, message: Any, at: float) -> bool:
        """Say whether a message may be an old one. The broker sends what waited before this connection's presence."""
        here = not message.retain and message.topic == self._presence_topic and message.payload == self._introduced
        if here or at - self._here_since > WAITED_S:
            self._catching_up = False
        return self._catching_up and getattr(message.properties, "MessageExpiryInterval", None) is None

    # ------------------------------------------------------------------------------- question and answer

    async def ask(self, topic: str, payload: Payload, *, response_topic: str, within_s: float) -> Reply:
        """Send something and wait for its reply. Raises BrokerUnreachable, and HubGone where none comes in time."""
        correlation = new_id().encode()
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._asked[correlation] = (response_topic, reply)
        try:
            async with asyncio.timeout(within_s):
                await self._hear_of(response_topic)
                await self.publish(
                    topic,
                    payload,
                    expires_s=math.ceil(within_s),
                    response_topic=response_topic,
                    correlation=correlation,
                )
                return await reply
        except TimeoutError:
            raise HubGone(f"no answer to what was sent to {topic} within {within_s:g} s; is it on?") from None
        finally:
            del self._asked[correlation]

    async def _hear_of(self, response_topic: str) -> None:
        if not any(each.matches(response_topic) for each in self._subscriptions):
            listening = self._subscribe(response_topic, _ignore, no_local=True)
            if self._connection is not None:
                await self._listen(self._connection, [listening])

    def _is_reply(self, inbound: Inbound, correlation: bytes) -> bool:
        topic, asked = self._asked.get(correlation, ("", None))
        if asked is None or topic != inbound.topic:  # only who may write there can answer
            return False
        try:
            reply = read(Reply, inbound.payload)
        except PayloadError as error:
            log.warning("an answer that came to %s cannot be read: %s", inbound.topic, error)
            return True
        if not asked.done():
            asked.set_result(reply)
        return True

    async def answer(self, to: Inbound, reply: Reply, otherwise: str) -> None:
        """Send a reply to where a message wanted it, else to the topic ``otherwise``; lost where the link is down.

        Only to a topic for replies: whoever asks could name any other that this client may write and they may not.
        """
        wanted = to.response_topic
        its_own = wanted is not None and wanted == self.topics.device(self.topics.device_of(wanted) or "", "reply")
        try:
            topic = wanted if wanted is not None and its_own else otherwise
            await self.publish(topic, reply, correlation=to.correlation, expires_s=ANSWER_KEPT_S)
        except HouseError as error:
            log.info("the answer to what came to %s is lost: %s", to.topic, error)


async def _ignore(_: Inbound) -> None:
    """Take an answer that came after its time."""
