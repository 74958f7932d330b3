"""How a conversation walks from room to room: what hub and device decide at each message, without any I/O.

A session has one owner and an epoch that only grows. The hub's half is a record, ``Handoff``, that ``step`` takes
from phase to phase; the device's half is a ``Hold`` for each session that was ever handed over, and one decision for
each of the three commands. Both are written down durably before anything is sent that follows from them, so each
message may be lost, late or doubled, and each process may end between any two of them.

    RELEASING  the source is to let go (epoch e) and to send the bundle
    OFFERING   the target is to keep the bundle (e+1), without acting yet
    ADOPTING   the target owns the session (e+1) and is told so until it has said that it knows
    RETURNING  the source owns it again, under an epoch newer than any that was given out, and is told so likewise
    OVER       nothing is left to do
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from roomtone.core.errors import DeviceOffline
from roomtone.core.wire import Adopt, Bundle, Code, Move, Offer, Release

RELEASE_WAITS_S = (2.0, 2.0)
"""The source may first end the turn in which it was asked, for a second, and then writes to its disk."""

OFFER_WAITS_S = (0.8, 0.8, 1.0)
"""A person stands in the other room and waits: after this the conversation goes on where it was."""

ADOPT_WAITS_S = (1.0, 2.0, 4.0, 8.0, 15.0)
"""What is owed to a device is sent again after these, the last for ever; at once when it comes back."""

LOOKS_AGAIN_S = 1.0
"""How often the hub looks whether who is gone has been gone for longer than the lease."""

EXPIRES_S = 5
"""A command of a handoff that the broker could not deliver in this time is never delivered."""

MOVES_KEPT = 200
"""Handoffs that the history of a session holds; the oldest go."""

MOST_EPOCH = 2**40
"""A handoff adds two at most, so no house ever comes to this: who says so is wrong, and no file takes much more."""

LEASE_S = 20.0
"""A target that did not say it has adopted, and is gone for so long, has lost the session to the source again."""

RETURN_LOOKS_AGAIN_S = 600.0
"""How often the hub looks after one that is to have its session back and is gone: it is told once it is there, so
this is only for what was missed. Each look is a commit, which an SD card pays for."""

GIVEN_UP_S = 24 * 3600.0
"""Who is gone for so long is owed nothing any more, and the hub keeps no bundle for them: the session is theirs, and
they are told so when they are there again."""

LINK_LOST_S = 10.0
"""A device that is cut off for so long does not go on with a session that was ever handed over: half of the lease,
since it sees the cut up to two keep-alives later or earlier than the hub does."""


# --------------------------------------------------------------------------------------------- the hub


class Phase(StrEnum):
    """How far a handoff is."""

    RELEASING = "releasing"
    OFFERING = "offering"
    ADOPTING = "adopting"
    RETURNING = "returning"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class Handoff:
    """One handoff. ``epoch`` is that of the messages of its phase; ``due`` is when the next one is sent, in the hub's
    own seconds. ``why`` is the code for which it came back; ``speaks``: whether who adopts says the rest.

    ``tries`` counts the messages of the phase, ``sent`` all of them, so that no two have the same id. A reply to one
    before ``since`` is from an earlier life of the addressee, who must know in this one.
    ``carries``: the addressee has lost what it was given, so the bundle goes with the next Adopt.
    """

    id: str
    session: str
    source: str
    target: str
    target_room: str
    epoch: int
    phase: Phase = Phase.RELEASING
    tries: int = 0
    sent: int = 0
    since: int = 0
    due: float = 0.0
    following: bool = False
    speaks: bool = True
    carries: bool = False
    why: str = ""
    bundle: Bundle | None = None

    @property
    def addressee(self) -> str:
        """Whom the messages of this phase go to."""
        return self.target if self.phase in (Phase.OFFERING, Phase.ADOPTING) else self.source

    @property
    def owner(self) -> str:
        """Whose the session is; while a bundle is on its way that one does not act for it."""
        went = self.phase is Phase.ADOPTING or (self.phase is Phase.OVER and not self.why)
        return self.target if went else self.source


@dataclass(frozen=True, slots=True)
class Replied:
    """The addressee of ``phase`` has answered: with the bundle where it released, with a code where it refused.

    ``to`` is the number of the message that it answers (``Handoff.sent``).
    """

    phase: Phase
    to: int
    code: str = ""
    bundle: Bundle | None = None


@dataclass(frozen=True, slots=True)
class Late:
    """The time for an answer is over, or it is time to send for the first time."""


@dataclass(frozen=True, slots=True)
class Online:
    """A device is there again."""

    device: str


@dataclass(frozen=True, slots=True)
class Offline:
    """A device is gone, for ``seconds`` now; for ever (``math.inf``) where it is none of the house any more."""

    device: str
    seconds: float = 0.0


Event = Replied | Late | Online | Offline


@dataclass(frozen=True, slots=True)
class Send:
    """Send a command to a device; lost where it cannot be delivered at once: it is sent again."""

    to: str
    command: Release | Offer | Adopt


@dataclass(frozen=True, slots=True)
class Own:
    """Write down, in the same commit, whose the session is from now on."""

    session: str
    owner: str
    epoch: int


Order = Send | Own


def step(handoff: Handoff, event: Event, now: float) -> tuple[Handoff, list[Order]]:
    """Take a handoff on. What it returns is committed first; only then are its commands sent.

    An event that does not belong to the present phase changes nothing.
    """
    phase, came = handoff.phase, event
    if phase is Phase.OVER:
        return handoff, []
    if isinstance(came, Replied):
        belongs = came.phase is phase and came.to >= handoff.since
        return _replied(handoff, came, now) if belongs else (handoff, [])
    if isinstance(came, Late):
        return _late(handoff, now) if now >= handoff.due else (handoff, [])
    if came.device != handoff.addressee:
        return handoff, []
    if isinstance(came, Online):
        again = phase in (Phase.ADOPTING, Phase.RETURNING)
        return _send(replace(handoff, tries=0, since=handoff.sent + 1), now) if again else (handoff, [])
    return _gone(handoff, came, now)


def _replied(handoff: Handoff, reply: Replied, now: float) -> tuple[Handoff, list[Order]]:
    phase = handoff.phase
    if phase is Phase.RELEASING:
        if reply.bundle is None:
            return _return(handoff, reply.code or Code.NOT_HERE, now)
        offering = replace(handoff, phase=Phase.OFFERING, epoch=handoff.epoch + 1, tries=0)
        return _send(replace(offering, bundle=_noted(reply.bundle, offering)), now)
    if phase is Phase.OFFERING:
        if reply.code:
            return _return(handoff, reply.code, now)
        adopting = replace(handoff, phase=Phase.ADOPTING, tries=0, speaks=not handoff.following)
        adopting, orders = _send(adopting, now)
        return adopting, [Own(handoff.session, handoff.target, adopting.epoch), *orders]
    if reply.code == Code.NOT_HERE and handoff.bundle is not None and not handoff.carries:
        return _send(replace(handoff, carries=True), now)
    if reply.code and reply.code != Code.STALE and phase is Phase.ADOPTING:
        return _return(handoff, reply.code, now)
    if reply.code and reply.code not in (Code.STALE, Code.NOT_HERE):
        return handoff, []  # no other room could have it: it is told once more, later
    return replace(handoff, phase=Phase.OVER), []


def _noted(bundle: Bundle, handoff: Handoff) -> Bundle:
    """Write this handoff into the session's history."""
    why = "followed" if handoff.following else "asked"
    move = Move(source=handoff.source, target=handoff.target, epoch=handoff.epoch, why=why)
    return bundle.model_copy(update={"moves": (*bundle.moves[1 - MOVES_KEPT :], move)})


def _late(handoff: Handoff, now: float) -> tuple[Handoff, list[Order]]:
    if handoff.phase in _BOUNDS and handoff.tries >= len(_BOUNDS[handoff.phase]):
        return _return(handoff, DeviceOffline.code, now)
    return _send(handoff, now)


def _gone(handoff: Handoff, event: Offline, now: float) -> tuple[Handoff, list[Order]]:
    if handoff.phase in _BOUNDS:
        return _return(handoff, DeviceOffline.code, now)
    if handoff.phase is Phase.ADOPTING and event.seconds >= LEASE_S:
        # It may have begun to speak before it was cut off: the rest is not said again.
        return _return(handoff, DeviceOffline.code, now, speaks=False)
    if event.seconds >= GIVEN_UP_S:
        return replace(handoff, phase=Phase.OVER), []
    # Nothing is sent to who is gone: it would be delivered when the session may be another's again.
    again_s = LOOKS_AGAIN_S if handoff.phase is Phase.ADOPTING else RETURN_LOOKS_AGAIN_S
    return replace(handoff, due=max(handoff.due, now + again_s)), []


def _return(handoff: Handoff, why: str, now: float, *, speaks: bool = True) -> tuple[Handoff, list[Order]]:
    """Give the session back to the source, under an epoch that makes void whatever is still on its way."""
    back = replace(
        handoff,
        phase=Phase.RETURNING,
        epoch=handoff.epoch + 1,
        why=str(why),
        tries=0,
        carries=False,
        speaks=speaks and not handoff.following,
    )
    back, orders = _send(back, now)
    return back, [Own(back.session, back.source, back.epoch), *orders]


_BOUNDS = {Phase.RELEASING: RELEASE_WAITS_S, Phase.OFFERING: OFFER_WAITS_S}


def _send(handoff: Handoff, now: float) -> tuple[Handoff, list[Order]]:
    waits = _BOUNDS.get(handoff.phase, ADOPT_WAITS_S)
    due = now + waits[min(handoff.tries, len(waits) - 1)]
    sent = replace(handoff, tries=handoff.tries + 1, sent=handoff.sent + 1, due=due)
    return sent, [Send(handoff.addressee, command(sent))]


def command(handoff: Handoff) -> Release | Offer | Adopt:
    """Return what the addressee of the present phase is told."""
    ids = {"id": command_id(handoff), "handoff": handoff.id, "session": handoff.session, "epoch": handoff.epoch}
    if handoff.phase is Phase.RELEASING:
        return Release(**ids, target=handoff.target, target_room=handoff.target_room, following=handoff.following)
    if handoff.phase is Phase.OFFERING:
        assert handoff.bundle is not None
        return Offer(**ids, bundle=handoff.bundle, following=handoff.following)
    bundle = handoff.bundle if handoff.carries else None
    return Adopt(**ids, speaks=handoff.speaks, bundle=bundle, why=handoff.why, room=handoff.target_room)


def command_id(handoff: Handoff) -> str:
    """Return the id of a command, by which its reply tells handoff and phase (``read_id``)."""
    return f"{handoff.id}.{handoff.phase}.{handoff.epoch}.{handoff.sent}"


def read_id(of: str) -> tuple[str, Phase, int] | None:
    """Return handoff, phase and number of what a reply answers; None for a reply to something else."""
    parts = of.split(".")
    if len(parts) != 4 or parts[1] not in set(Phase) or not parts[3].isdecimal():
        return None
    return parts[0], Phase(parts[1]), int(parts[3])


# ------------------------------------------------------------------------------------------ the device


class Standing(StrEnum):
    """How a device stands to a session: it acts for it, has let go of it, or keeps it until told to adopt it."""

    HELD = "held"
    RELEASED = "released"
    OFFERED = "offered"


@dataclass(frozen=True, slots=True)
class Hold:
    """How a device stands to a session that was ever handed over, and the newest epoch that it knows of."""

    session: str
    epoch: int
    standing: Standing
    handoff: str = ""


class Does(StrEnum):
    """What a device does at a command of a handoff, after it has written the new Hold down durably.

    LET_GO: stop, write released with the bundle, reply with it. SAME_BUNDLE: reply with the bundle written then.
    KEEP: write the offered bundle, reply. TAKE: go on with what was offered, or with the command's own bundle.
    BACK: go on with what it had let go of. CONFIRM: it acts for it already, and now knows that it may; the rest is
    not said again, only why the session came back, where it did. REFUSE: reply with the code; nothing changes.
    """

    LET_GO = "let_go"
    SAME_BUNDLE = "same_bundle"
    KEEP = "keep"
    TAKE = "take"
    BACK = "back"
    CONFIRM = "confirm"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a device does, and how it stands afterwards; ``hold`` is None only where it refuses what it never had."""

    does: Does
    hold: Hold | None
    code: str = ""


def on_release(hold: Hold | None, release: Release, *, here: bool) -> Decision:
    """Decide about a Release. ``here``: the session is this device's own and was never handed over."""
    if hold is None:
        return _let_go(release) if here else Decision(Does.REFUSE, None, Code.NOT_HERE)
    if release.epoch < hold.epoch:
        return Decision(Does.REFUSE, hold, Code.STALE)
    if hold.standing is Standing.RELEASED and hold.handoff == release.handoff:
        return Decision(Does.SAME_BUNDLE, hold)
    if hold.standing is not Standing.HELD:
        return Decision(Does.REFUSE, hold, Code.NOT_HERE)
    return _let_go(release)


def _let_go(release: Release) -> Decision:
    return Decision(Does.LET_GO, Hold(release.session, release.epoch, Standing.RELEASED, release.handoff))


def on_offer(hold: Hold | None, offer: Offer, *, hindrance: str = "") -> Decision:
    """Decide about an Offer. ``hindrance`` is the code of why this room cannot serve the session now, or empty."""
    if hold is not None and offer.epoch <= hold.epoch:
        same = hold.epoch == offer.epoch and hold.handoff == offer.handoff and hold.standing is not Standing.RELEASED
        return Decision(Does.CONFIRM, hold) if same else Decision(Does.REFUSE, hold, Code.STALE)
    if hindrance:
        return Decision(Does.REFUSE, hold, hindrance)
    return Decision(Does.KEEP, Hold(offer.session, offer.epoch, Standing.OFFERED, offer.handoff))


def on_adopt(hold: Hold | None, adopt: Adopt, *, here: bool) -> Decision:
    """Decide about an Adopt. ``here``: the session is this device's own and was never handed over."""
    held = Hold(adopt.session, adopt.epoch, Standing.HELD, adopt.handoff)
    if hold is None:
        if here:
            return Decision(Does.CONFIRM, held)
        return Decision(Does.TAKE, held) if adopt.bundle else Decision(Does.REFUSE, None, Code.NOT_HERE)
    if adopt.epoch < hold.epoch or (adopt.epoch == hold.epoch and hold.standing is Standing.RELEASED):
        return Decision(Does.REFUSE, hold, Code.STALE)
    if hold.standing is Standing.HELD:
        return Decision(Does.CONFIRM, held)
    if hold.standing is Standing.RELEASED and (adopt.handoff == hold.handoff or adopt.epoch == hold.epoch + 1):
        return Decision(Does.BACK, held)
    if hold.standing is Standing.RELEASED:  # others had it since: what this device let go of is old
        return Decision(Does.TAKE, held) if adopt.bundle else Decision(Does.REFUSE, hold, Code.NOT_HERE)
    if adopt.epoch == hold.epoch or adopt.bundle is not None:
        return Decision(Does.TAKE, held)
    return Decision(Does.REFUSE, hold, Code.NOT_HERE)


def may_act(hold: Hold | None, *, confirmed: bool, link_lost_s: float) -> bool:
    """Say whether a device may go on with a session of its own store.

    ``confirmed``: the hub has said in this run of the program that it is this device's. ``link_lost_s``: for how long
    the broker has been out of reach, in seconds, 0 while it is there.
    """
    if hold is None or (hold.epoch == 0 and hold.standing is Standing.HELD):
        return True
    return hold.standing is Standing.HELD and confirmed and link_lost_s <= LINK_LOST_S
