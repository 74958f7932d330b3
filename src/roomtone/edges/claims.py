"""Who answers a voice that several rooms heard: a claim goes out at once, and who stands down does so in silence.

Nothing waits for this edge but the chime, which asks when it would sound anyway. Without a broker, or with a slow
one, the room answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from roomtone.core.arbitration import Arbiter, Kind, Standing, nearness
from roomtone.core.dialog import new_id
from roomtone.core.effects import Called
from roomtone.core.errors import HouseError, PayloadError
from roomtone.core.signals import StandDown
from roomtone.core.wire import Claim, read
from roomtone.flow import Event, Feed
from roomtone.link import Inbound, Link

log = logging.getLogger(__name__)

GRACE_S = 0.15
"""So long a chime waits beyond its time for the broker to say whose call it is; then it sounds."""

OLDEST_S = 3.0
"""A claim of an older call is of no use: whoever called has been answered, or has given up."""

EXPIRES_S = 2
"""So long a broker keeps a claim for a room that it cannot reach."""

SEND_S = 1.0
"""Longest that sending a claim may take."""

LONGEST = 1024
"""Bytes of the longest claim that is read."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call, on the feed as ``wake.claimed``, ``wake.won`` or ``wake.lost``.

    ``ms``: how long ago, then, the word was over or the speech began. ``to``: the device that answers instead.
    """

    call: int
    kind: Kind
    ms: float
    to: str = ""


class Claims:
    """Claims the calls that the feed tells of, and posts StandDown where another room answers.

    ``can_serve`` says whether this room could hear, understand and speak, ``others_online`` whether another room
    could instead.
    """

    def __init__(
        self,
        link: Link,
        device: str,
        room: str,
        feed: Feed,
        post: Callable[[StandDown], None],
        can_serve: Callable[[], bool] = lambda: True,
        others_online: Callable[[], bool] = lambda: True,
    ) -> None:
        self._link = link
        self._device = device
        self._room = room
        self._feed = feed
        self._post = post
        self._can_serve = can_serve
        self._others_online = others_online
        self._run = new_id()
        self._arbiter = Arbiter()
        self._calls: dict[int, Called] = {}
        self._news = asyncio.Event()
        link.on(link.topics.device("+", "wake"), self._take)

    async def run(self) -> None:
        """Claim what is heard, for as long as this runs."""
        await self._feed.attend("claims", "wake.heard", self._hear)

    async def answers(self, call: int) -> bool:
        """Say whether this room answers a call; wait up to ``GRACE_S`` for its claim to come back."""
        if self._is_open(call):
            try:
                async with asyncio.timeout(GRACE_S):
                    while self._is_open(call):
                        self._news.clear()
                        await self._news.wait()
            except TimeoutError:
                log.info("the broker has not said in time who answers")
        return self._arbiter.standing(call) is not Standing.LOST

    def _is_open(self, call: int) -> bool:
        return self._link.up and self._arbiter.standing(call) in (None, Standing.CLAIMED)

    # ----------------------------------------------------------------------------------------- one's own

    async def _hear(self, event: Event) -> None:
        called: Called = event.data
        if called.kind is Kind.ENGAGED:  # nobody takes it away: the others are only told to keep out of it
            await self._claim(called)
            return
        self._calls = {number: each for number, each in self._calls.items() if self._arbiter.standing(number)}
        self._calls[called.number] = called
        serves = self._can_serve() or not self._others_online()
        near = nearness(called.call.dbfs)
        heard = self._arbiter.hear(called.number, called.kind, called.call.at, near=near, serves=serves)
        if heard is Standing.LOST:
            self._stand_down(called)
            return
        self._tell("wake.claimed", called)
        if not await self._claim(called):
            self._win(called.number)  # there is nobody to learn of it

    async def _claim(self, called: Called) -> bool:
        """Send a claim; say whether it is under way."""
        claim = Claim(
            id=self._device,
            room=self._room,
            call=f"{self._run}-{called.number}",
            kind=called.kind,
            age_ms=min(60_000.0, max(0.0, self._age_ms(called))),
            score=called.call.score,
            dbfs=called.call.dbfs,
        )
        try:
            async with asyncio.timeout(SEND_S):
                # Unconfirmed, and so never kept for who is away: an old claim would silence somebody else's call.
                topic = self._link.topics.device(self._device, "wake")
                await self._link.publish(topic, claim, qos=0, expires_s=EXPIRES_S)
        except (HouseError, TimeoutError) as error:
            log.debug("not claimed: %s", error)
            return False
        return True

    def _win(self, number: int) -> None:
        if self._arbiter.win(number):
            self._news.set()
            self._tell("wake.won", self._calls[number])

    def _stand_down(self, called: Called) -> None:
        self._post(StandDown(called.number))
        self._news.set()
        self._tell("wake.lost", called, self._arbiter.lost_to(called.number))

    # -------------------------------------------------------------------------------------- everybody's

    async def _take(self, message: Inbound) -> None:
        """Take a claim, also one's own when it comes back: where it stands among the others decides."""
        if message.retained:
            return
        claim = read(Claim, message.payload, longest=LONGEST)
        if self._link.topics.device_of(message.topic) != claim.id:
            raise PayloadError(f"{message.topic} carries a claim of {claim.id}; it is ignored")
        if claim.age_ms > OLDEST_S * 1000:
            return
        run, _, number = claim.call.rpartition("-")
        if claim.id == self._device and run == self._run:
            self._win(int(number))
            return
        at = message.at - claim.age_ms / 1000
        for lost in self._arbiter.lose(claim.kind, at, claim.id, nearness(claim.dbfs)):
            self._stand_down(self._calls[lost])

    def _age_ms(self, called: Called) -> float:
        return (asyncio.get_running_loop().time() - called.call.at) * 1000

    def _tell(self, kind: str, called: Called, to: str = "") -> None:
        ms = round(self._age_ms(called), 1)
        self._feed.publish(kind, Outcome(called.number, called.kind, ms, to), source="claims")
