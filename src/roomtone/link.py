"""The link to the house's broker, a device's or the hub's: it is there or it is not, and comes back by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from roomtone.core.wire import Payload, Presence, Reply, Topics
from roomtone.outbox import Outbox
from roomtone.settings import Hub


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message that came: where, what, whether the broker had kept it, and where an answer to it goes.

    ``at`` is the loop's time when it was received.
    """

    topic: str
    payload: bytes
    retained: bool
    response_topic: str | None
    correlation: bytes | None
    at: float


Take = Callable[[Inbound], Awaitable[None]]


class Link:
    """One client of the broker. ``up`` and ``health`` (``ok``, or what is wrong, and what mends it) tell of it.

    ``client_id`` and ``presence`` (retained, ``online`` False as its last will) say who this is. What is subscribed
    with ``on`` is subscribed anew at every connection.
    """

    def __init__(
        self,
        hub: Hub,
        client_id: str,
        presence: Callable[[], Presence],
        presence_topic: str,
        outbox: Outbox | None = None,
        on_change: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self.topics = Topics(hub.home)
        self._given = (client_id, presence, presence_topic, outbox, on_change)
        self.up = False
        self.health = "not connected yet"

    def on(self, topic_filter: str, take: Take, *, no_local: bool = False) -> None:
        """Let ``take`` have what comes under a filter; its failures are logged. Also while connected."""
        raise NotImplementedError

    async def run(self) -> None:
        """Be connected whenever that is possible, for as long as this runs; say goodbye at the end."""
        raise NotImplementedError

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
        """Send something now; b"" with ``retain`` takes back what was kept. Raises BrokerUnreachable."""
        raise NotImplementedError

    async def surely(self, topic: str, payload: Payload, *, id_: str, expires_s: int | None = None) -> None:
        """Send what must arrive: kept in the outbox first, delivered once and in order, as soon as it can be."""
        raise NotImplementedError

    async def ask(self, topic: str, payload: Payload, *, response_topic: str, within_s: float) -> Reply:
        """Send something and wait for its reply. Raises BrokerUnreachable, and HubGone where none comes in time."""
        raise NotImplementedError

    async def answer(self, to: Inbound, reply: Reply, otherwise: str) -> None:
        """Send a reply to where a message wanted it, else to the topic ``otherwise``; lost where the link is down."""
        raise NotImplementedError
