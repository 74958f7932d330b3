"""The room as the house sees it: its presence, how it stands, and its finished turns, over the link.

What was said goes out only where the household shares texts, and where the persona lets it travel as far as the
broker. Nothing is sent while nothing changes.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from roomtone import __version__, outbound
from roomtone.core.dialog import Timer, TimerKind, Turn, new_id
from roomtone.core.errors import BrokerUnreachable, EgressRefused, HouseError, RoomtoneError, StoreError
from roomtone.core.persona import Egress
from roomtone.core.wire import VERSION, Payload, Presence, State, read
from roomtone.edges.commands import Commands, Intercom, Mover, Unmoved
from roomtone.edges.reach import Reach
from roomtone.flow import Event, beside
from roomtone.link import Inbound, Link
from roomtone.settings import Device, Hub

log = logging.getLogger(__name__)

SHORTEST_S = 0.25
"""Two states of a room are at least so long apart: what changes in between goes with the next."""

LOOK_S = 5.0
"""How often it is looked whether something changed that nobody tells of: a knob, a quiet hour that begins."""

TELLING = frozenset(
    {
        "state.changed",
        "turn.ended",
        "persona.switched",
        "personas.changed",
        "history.erased",
        "device.health",
        "engine.failed",
        "timers.changed",
    }
)
"""Events after which a room may stand differently."""

LONGEST_WORDS = 10_000
LONGEST_NAME = 60
"""Characters of what was said, and of a room's name, that the wire takes."""

TURN_KEPT_S = 600
"""A finished turn that the broker could not deliver for so long is of no use any more."""

TURN_OWED_S = 3600
"""A turn that ended while the broker was out of reach waits for it here for so long."""


TWIN_KEPT_S = 600.0
"""For so long it is told that another device has this one's id, after it was seen last."""


@dataclass(slots=True)
class Identity:
    """Who this device is to the house; ``instance`` tells one run of its program from another."""

    device: Device
    capabilities: set[str] = field(default_factory=lambda: {"announce", "timers"})
    personas: tuple[str, ...] = ()
    instance: str = field(default_factory=new_id)

    @property
    def id(self) -> str:
        """The device's id."""
        return self.device.id

    def presence(self) -> Presence:
        """Return what its presence says."""
        device = self.device
        return Presence(
            id=device.id,
            online=True,
            instance=self.instance,
            room=device.room.strip()[:LONGEST_NAME] or device.id[:LONGEST_NAME],
            name=device.name[:LONGEST_NAME],
            version=__version__[:40],
            capabilities=tuple(sorted(self.capabilities)),
            personas=self.personas,
        )


class Edge:
    """Tells the house how this room stands, for as long as it runs, and takes commands.

    ``mover`` takes the commands by which a conversation moves; ``intercom`` those to say something.
    """

    def __init__(self, identity: Identity, link: Link, hub: Hub, reach: Reach) -> None:
        self.mover: Mover = Unmoved()
        self.intercom: Intercom | None = None
        self._twin: tuple[str, float] | None = None
        self._was_seen = False
        self._identity = identity
        self._link = link
        self._hub = hub
        self._reach = reach
        self._changed = asyncio.Event()
        self._sent: State | None = None
        self._answered_at: float | None = None
        self._told: Turn | None = None
        self._commands = Commands(self, identity.id, link, reach)
        link.on(link.topics.device(identity.id, "command"), self._commands.take)
        link.on(link.topics.device(identity.id, "presence"), self._see_itself)

    @property
    def health(self) -> str:
        """``ok``, or what is wrong with the room's place in the house."""
        return self.twin or self._link.health

    def serves(self) -> bool:
        """Say whether the room can hear, think and speak now."""
        return self._reach.serves()

    def standing(self) -> tuple[str | None, int]:
        """Return the session that goes on here, and the epoch that is known of it."""
        return self.mover.standing()

    def link_changed(self, up: bool) -> None:
        """Tell everything anew: the broker may have forgotten it."""
        self._sent = None
        if up:
            self.look()

    def look(self) -> None:
        """Tell the house soon where something has changed."""
        self._changed.set()

    async def prepare(self) -> None:
        """Look who can speak here: the first presence says so."""
        await self._who_can_speak()

    async def run(self) -> None:
        """Be the edge for as long as this runs."""
        following = self._reach.feed.attend("mqtt", "*", self._follow)
        async with beside(following, "mqtt feed"), beside(self._look_now_and_then(), "mqtt look"):
            await self._tell()

    # --------------------------------------------------------------------------------------- presence

    async def _who_can_speak(self) -> None:
        self._identity.personas = tuple(persona.id for persona in await self._reach.personas())[:200]

    async def _see_itself(self, message: Inbound) -> None:
        """See what the broker keeps of this device: an old last will is put right, a twin is told of.

        A broker that lets one of two in under the same id shuts the other out without a word, so what a twin left is
        all that is seen of it. Before this run's own presence came by, another's may be an earlier run's.
        """
        seen = read(Presence, message.payload) if message.payload else None
        if seen is not None and seen.instance == self._identity.instance and seen.online:
            self._was_seen = True
        elif seen is not None and seen.online:
            if self._was_seen:
                self._meet_twin(seen)
        elif self._link.up:
            self._twin = None
            await self._tell_presence()

    def _meet_twin(self, other: Presence) -> None:
        now = asyncio.get_running_loop().time()
        where = f"in {other.room}" if other.room else "in the house"
        line = f"another device {where} is called {self._identity.id} too; give each its own device.id"
        if not self.twin:
            log.error("%s", line)
        self._twin = (line, now)

    @property
    def twin(self) -> str:
        """What is wrong where another device has this one's id; empty where none was seen for a while."""
        line, at = self._twin or ("", 0.0)
        return line if asyncio.get_running_loop().time() - at < TWIN_KEPT_S else ""

    async def _tell_presence(self) -> None:
        await self._publish("presence", self._identity.presence(), retain=True)

    # ------------------------------------------------------------------------------------------ state

    async def _follow(self, event: Event) -> None:
        if event.kind == "turn.ended":
            await self._tell_turn(event.data.turn)
        elif event.kind == "personas.changed":
            before = self._identity.personas
            await self._who_can_speak()
            if self._identity.personas != before:
                await self._tell_presence()
        elif event.kind == "history.erased":
            self._told = None
        if event.kind in TELLING:
            self.look()

    async def _look_now_and_then(self) -> None:
        seen = None
        while True:
            reach = self._reach
            now = (reach.loudspeaker.volume, reach.quiet.now(), reach.serves())
            if now != seen:
                seen = now
                self.look()
            await asyncio.sleep(LOOK_S)

    async def _tell(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._tell_state()
            except Exception:  # what cannot be told now may be told in a moment
                log.exception("the house is not told how this room stands")
                await asyncio.sleep(SHORTEST_S)

    async def _tell_state(self) -> None:
        if not self._link.up:
            return
        state = await self._state()
        if not same(state, self._sent) and await self._publish("state", state, retain=True):
            self._sent = state
            await asyncio.sleep(SHORTEST_S)

    def idle_s(self) -> float | None:
        """Return the seconds since somebody was last answered here; None where nobody was since it was started."""
        answered = self._answered_at
        return None if answered is None else asyncio.get_running_loop().time() - answered

    async def _state(self) -> State:
        reach, told = self._reach, self._told
        state, speaker = reach.state(), reach.speaker()
        session, epoch = self.standing()
        idle_s = self.idle_s()
        return State(
            state=state.mode.value,
            persona=speaker.id,
            volume=round(reach.loudspeaker.volume, 3),
            muted=state.muted,
            listens=not state.muted,
            quiet=reach.quiet.now(),
            serves=reach.serves(),
            session=session,
            epoch=epoch,
            idle_s=None if idle_s is None else round(idle_s, 1),
            timers=tuple(await self._timers()),
            released=tuple(self.mover.released),
            heard=told.heard[:LONGEST_WORDS] if told else "",
            said=told.spoken[:LONGEST_WORDS] if told else "",
        )

    async def _timers(self) -> list[Timer]:
        try:
            running = await self._reach.timers.running()
        except RoomtoneError as error:
            log.error("the house is not told of timers: %s", error.message)
            return []
        return [timer if self._hub.share_texts else without_words(timer) for timer in running[:100]]

    # ------------------------------------------------------------------------------------------ turns

    async def _tell_turn(self, turn: Turn) -> None:
        if turn.spoken and turn.heard:
            self._answered_at = asyncio.get_running_loop().time()
        shared = turn.model_copy(update={"reply_wav": None})
        if not (self._hub.share_texts and await self._may_leave(shared)):
            shared = without_texts(turn)
        self._told = shared
        if self._link.owes or not await self._publish("turn", wire_turn(shared), expires_s=TURN_KEPT_S):
            await self._owe(shared)

    async def _owe(self, turn: Turn) -> None:
        """Tell of a turn once the broker is there again, behind those that wait already."""
        topic = self._link.topics.device(self._identity.id, "turn")
        try:
            await self._link.surely(topic, wire_turn(turn), id_=turn.trace, expires_s=TURN_OWED_S)
        except (HouseError, StoreError) as error:
            log.warning("the house is not told of a turn: %s", error.message)

    async def _may_leave(self, turn: Turn) -> bool:
        """Note on the receipt that a turn's texts leave; say whether all who had a part in it let them."""
        host = self._link.host
        with outbound.within(await self._egress(turn), self._reach.note(turn.trace, turn.persona)):
            try:
                outbound.leaving(host, len(wire_turn(turn)), "text", "turn")
            except EgressRefused as error:
                log.debug("a turn stays here: %s", error.message)
                return False
        return True

    async def _egress(self, turn: Turn) -> Egress:
        """Return how far a turn's texts may travel: no further than the closest of those who had a part in it."""
        order = (Egress.NONE, Egress.LAN, Egress.ANY)
        speaker = self._reach.speaker()
        known = {persona.id: persona.egress for persona in [*await self._reach.personas(), speaker]}
        asked = (turn.intent or "").removeprefix("persona.")
        parts = {turn.persona, speaker.id, *({asked} & known.keys())}
        return min((known.get(part, Egress.NONE) for part in parts), key=order.index)

    # ------------------------------------------------------------------------------------------ sending

    async def _publish(
        self, what: str, payload: Payload | bytes, *, retain: bool = False, expires_s: int | None = None
    ) -> bool:
        topic = self._link.topics.device(self._identity.id, what)
        try:
            await self._link.publish(topic, payload, retain=retain, expires_s=expires_s)
        except BrokerUnreachable:
            return False
        except HouseError as error:
            log.warning("the house is not told of its %s: %s", what, error.message)
            return False
        return True


def same(one: State, other: State | None) -> bool:
    """Say whether two states tell the same: the clock goes on by itself."""
    clocks = {"at", "idle_s"}
    return other is not None and one.model_dump(exclude=clocks) == other.model_dump(exclude=clocks)


def without_texts(turn: Turn) -> Turn:
    """Return a turn that tells how it went and nothing of what it was about; an error keeps its code alone."""
    kept: dict[str, object] = {
        "heard": "",
        "said": "",
        "spoken": "",
        "offers": None,
        "recalled": [],
        "error": turn.error and turn.error.model_copy(update={"message": ""}),
        "reply_wav": None,
    }
    return turn.model_copy(update=kept)


def without_words(timer: Timer) -> Timer:
    """Return a timer without whose it is and, of a reminder, what it says; what a timer is called others may see."""
    kept = {"person": "", **({"name": ""} if timer.kind is TimerKind.REMINDER else {})}
    return timer.model_copy(update=kept)


def wire_turn(turn: Turn) -> bytes:
    """Write a finished turn."""
    return b'{"v":%d,%s' % (VERSION, turn.model_dump_json().encode()[1:])
