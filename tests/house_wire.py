"""A broker in memory, for rooms on a clock that does not wait: it keeps order, what is retained, and last wills."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from paho.mqtt.client import topic_matches_sub

from roomtone.core.dialog import new_id
from roomtone.core.errors import BrokerUnreachable, HubGone
from roomtone.core.wire import Payload, Presence, Reply, Topics, write
from roomtone.link import Inbound, Link, Take
from roomtone.settings import Hub

log = logging.getLogger(__name__)


@dataclass
class Wire:
    """What joins the links. ``sent`` is all that was published, in order; a message takes ``delay_s`` to arrive."""

    sent: list[tuple[str, bytes]] = field(default_factory=list)
    retained: dict[str, bytes] = field(default_factory=dict)
    delay_s: float = 0.0
    links: list[WireLink] = field(default_factory=list)

    def link_of(self, *args: Any, **kwargs: Any) -> WireLink:
        """Make a link as ``Link`` is made."""
        return WireLink(self, *args, **kwargs)

    def publish(
        self,
        topic: str,
        payload: bytes,
        retain: bool = False,
        to: str | None = None,
        by: bytes = b"",
        sender: WireLink | None = None,
    ) -> None:
        """Let everybody who is connected and subscribed have a message, in order."""
        self.sent.append((topic, payload))
        if retain and payload:
            self.retained[topic] = payload
        elif retain:
            self.retained.pop(topic, None)
        for link in [each for each in self.links if each.up]:
            link.deliver(topic, payload, False, to, by or None, own=link is sender)

    def payloads(self, ending: str) -> list[bytes]:
        """List what was published to the topics that end so."""
        return [payload for topic, payload in self.sent if topic.endswith(ending)]


class WireLink(Link):
    """A link over a ``Wire``. ``cut`` takes it away, as a broken network does, and ``mend`` brings it back.

    What it sends is with the broker after ``up_s``, what it is sent arrives ``down_s`` later than elsewhere.
    """

    up_s = down_s = 0.0

    def __init__(
        self,
        wire: Wire,
        hub: Hub,
        client_id: str,
        presence: Callable[[], Presence],
        presence_topic: str,
        outbox: Any = None,
        on_change: Callable[[bool], None] = lambda _: None,
        **_: Any,
    ) -> None:
        self.wire, self.client_id = wire, client_id
        self.topics = Topics(hub.home)
        self.up, self.health = False, "not connected yet"
        self._presence, self._topic, self._on_change = presence, presence_topic, on_change
        self._takes: list[tuple[str, Take]] = []
        self._not_own: set[str] = set()
        self._waiting: dict[bytes, asyncio.Future[Reply]] = {}
        self._inbox: asyncio.Queue[tuple[float, Take, Inbound]] = asyncio.Queue()
        self._owed: list[tuple[str, bytes]] = []

    @property
    def host(self) -> str:
        return "hub.local"

    def on(self, topic_filter: str, take: Take, *, no_local: bool = False) -> None:
        self._takes.append((topic_filter.removeprefix("$share/hub/"), take))
        if no_local:
            self._not_own.add(topic_filter)
        if self.up:
            self._deliver_kept(topic_filter, take)

    async def run(self) -> None:
        self.wire.links.append(self)
        self.mend()
        try:
            while True:
                due, take, message = await self._inbox.get()
                await asyncio.sleep(max(0.0, due - asyncio.get_running_loop().time()))
                try:
                    await take(message)
                except Exception as error:
                    log.warning("%s: %s", message.topic, error)
        finally:
            self.cut()
            self.wire.links.remove(self)

    def mend(self) -> None:
        if self.up:
            return
        self.up, self.health = True, "ok"
        for topic_filter, take in self._takes:
            self._deliver_kept(topic_filter, take)
        self.wire.publish(self._topic, write(self._presence()), retain=True)
        for topic, payload in self._owed:
            self.wire.publish(topic, payload)
        self._owed.clear()
        self._on_change(True)

    def cut(self) -> None:
        if not self.up:
            return
        self.up, self.health = False, "the broker is out of reach"
        self.wire.publish(self._topic, write(self._presence().model_copy(update={"online": False})), retain=True)
        self._on_change(False)

    def deliver(
        self, topic: str, payload: bytes, retained: bool, to: str | None, by: bytes | None, *, own: bool = False
    ) -> None:
        """Have a message arrive."""
        now = asyncio.get_running_loop().time()
        message = Inbound(topic, payload, retained, to, by, now + self.wire.delay_s + self.down_s)
        waiting = self._waiting.pop(by, None) if by and topic.endswith("/reply") else None
        if waiting is not None and not waiting.done():
            waiting.set_result(Reply.model_validate_json(payload))
            return
        for topic_filter, take in self._takes:
            if topic_matches_sub(topic_filter, topic) and not (own and topic_filter in self._not_own):
                self._inbox.put_nowait((message.at, take, message))

    def _deliver_kept(self, topic_filter: str, take: Take) -> None:
        now = asyncio.get_running_loop().time()
        for topic, payload in self.wire.retained.items():
            if topic_matches_sub(topic_filter, topic):
                self._inbox.put_nowait((now, take, Inbound(topic, payload, True, None, None, now)))

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
        if not self.up:
            raise BrokerUnreachable("the broker is out of reach")
        if self.up_s:
            await asyncio.sleep(self.up_s)
        written = payload if isinstance(payload, bytes) else write(payload)
        self.wire.publish(topic, written, retain, response_topic, correlation or b"", self)

    @property
    def owes(self) -> bool:
        return bool(self._owed)

    async def surely(self, topic: str, payload: Payload | bytes, *, id_: str, expires_s: int | None = None) -> None:
        written = payload if isinstance(payload, bytes) else write(payload)
        if self.up:
            self.wire.publish(topic, written)
        else:
            self._owed.append((topic, written))

    async def ask(self, topic: str, payload: Payload | bytes, *, response_topic: str, within_s: float) -> Reply:
        if not self.up:
            raise BrokerUnreachable("the broker is out of reach")
        by = new_id().encode()
        self._waiting[by] = asyncio.get_running_loop().create_future()
        self.wire.publish(topic, payload if isinstance(payload, bytes) else write(payload), False, response_topic, by)
        try:
            async with asyncio.timeout(within_s):
                return await self._waiting[by]
        except TimeoutError:
            raise HubGone("the hub does not answer") from None
        finally:
            self._waiting.pop(by, None)

    async def answer(self, to: Inbound, reply: Reply, otherwise: str) -> None:
        if self.up:
            self.wire.publish(to.response_topic or otherwise, write(reply), False, None, to.correlation or b"")
