"""A conversation on its way between two rooms: taken out of one store, and put into another.

Its times are the sender's. Who takes it shifts them by how far the two clocks are apart, so that a timer still has
what it had left and a yes is no older than it is; less than some seconds is the way here, and a time server's steady
hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import TypeVar

from roomtone.clock import utc_now
from roomtone.core.continuation import unspoken
from roomtone.core.dialog import Ended, Message, Noun, Session, Timer, Turn
from roomtone.core.wire import LONGEST, Adopt, Bundle, Move, Offer, Rest
from roomtone.database import Statement
from roomtone.handoff.ownership import keeping_moves
from roomtone.mind.sentences import Skills
from roomtone.store import Store, as_message, iso, keeping_message, keeping_timer

TURNS, MESSAGES = 20, 200
"""So many of the last go along: what a model is told, and what can be asked for again."""

AROUND = 8 * 1024
"""Bytes that stand around a bundle in its payload, and around what is counted of it."""

APART_S = 5.0
"""Clocks that are apart by less are taken for the same."""

AN_EDGE = 150
"""Bytes of an edge and a tip: two ids each, and some signs."""

LONGEST_REST = 10_000
"""Characters of a rest: ten minutes of speech. Of more the next room's model makes its own end."""

N = TypeVar("N", bound=Noun)

_NAMED = "memory.name"
"""The intent by which somebody says who they are."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a conversation stands: the number of its last turn, the messages that none follows, and for how long
    nobody has said anything, in seconds."""

    session: Session
    turn: int
    tips: tuple[str, ...]
    idle_s: float


@dataclass(frozen=True, slots=True)
class Unsaid:
    """What goes along that is in no store: the rest of an answer, or a question that nobody answered; by whom."""

    rest: Rest | None = None
    asked: str = ""
    person: str = ""


# ------------------------------------------------------------------------------------------------ out


async def bundled(store: Store, place: Place, unsaid: Unsaid, moves: Sequence[Move]) -> Bundle:
    """Return a conversation as it goes to another room, within ``LONGEST``: the oldest is left behind.

    Raises StoreError.
    """
    session = place.session
    turns = await _turns(store, session.id)
    rows = await store.read(
        "SELECT * FROM (SELECT rowid AS number, * FROM messages WHERE session = ? ORDER BY rowid DESC LIMIT ?) "
        "ORDER BY number",
        session.id,
        MESSAGES,
    )
    messages = [_travelling(as_message(row)) for row in rows]
    told = await store.read("SELECT text, upto FROM summaries WHERE session = ?", session.id)
    turns = _fitting(turns, LONGEST // 3)
    room = LONGEST - AROUND - sum(len(turn.model_dump_json().encode()) for turn in turns)
    messages = _fitting(messages, room - (len(told[0]["text"].encode()) if told else 0))
    known = [message.id for message in messages]
    edges = await store.read(
        "SELECT child, parent FROM edges WHERE child IN (SELECT value FROM json_each(:ids)) "
        "AND parent IN (SELECT value FROM json_each(:ids))",
        {"ids": json.dumps(known)},
    )
    return Bundle(
        session=session,
        persona=session.persona,
        turn=place.turn,
        turns=tuple(turns),
        messages=tuple(messages),
        edges=tuple((row["child"], row["parent"]) for row in edges),
        tips=tuple(tip for tip in place.tips if tip in known),
        summary=told[0]["text"] if told else "",
        summary_upto=told[0]["upto"] if told else "",
        rest=unsaid.rest,
        asked=unsaid.asked,
        timers=tuple(await timers_of(store, session.id, unsaid.person)),
        person=unsaid.person,
        idle_s=place.idle_s,
        moves=tuple(moves),
    )


async def _turns(store: Store, session: str) -> list[Turn]:
    """Return the last turns, and before them the one in which somebody said who they are."""
    last = await store.history(TURNS, session)
    naming = await _naming(store, session)
    return last if naming is None or naming in last else [naming, *last]


async def called(store: Store, session: str, skills: Skills) -> str:
    """Return who said in a conversation what they are called, "" where nobody did. Raises StoreError."""
    turn = await _naming(store, session)
    match = skills.recognise(turn.heard) if turn is not None else None
    return match.written("name") if match is not None else ""


async def _naming(store: Store, session: str) -> Turn | None:
    """Return the last turn of a session in which somebody said who they are."""
    intent = "json_extract(data, '$.intent')"
    rows = await store.read(
        f"SELECT data FROM turns WHERE session = ? AND closed AND {intent} = ? ORDER BY turn DESC LIMIT 1",
        session,
        _NAMED,
    )
    return Turn.model_validate_json(rows[0]["data"]) if rows else None


async def timers_of(store: Store, session: str, person: str) -> list[Timer]:
    """Return what is to ring that was set in a session, or by the person who speaks in it. Raises StoreError."""
    return [
        timer
        for timer in await store.timers()
        if not timer.missed and (timer.session == session or (person and timer.person == person))
    ]


def _travelling(message: Message) -> Message:
    """Return a message without what only the prompts of this room's models need."""
    return message.model_copy(update={"data": {key: each for key, each in message.data.items() if key != "told"}})


def _fitting(said: Sequence[N], room: int) -> list[N]:
    """Return the last of what was said whose JSON, with its edges, has room in so many bytes."""
    sizes = accumulate(len(each.model_dump_json().encode()) + AN_EDGE for each in reversed(said))
    count = sum(size <= room for size in sizes)
    return list(said[len(said) - count :])


# ------------------------------------------------------------------------------------------------- in


def by_our_clock(bundle: Bundle, came: datetime) -> Bundle:
    """Return a bundle with its times on this machine's clock, which showed ``came`` when it was received."""
    skew = came - bundle.at
    if abs(skew) < timedelta(seconds=APART_S):
        return bundle
    turns = tuple(turn.model_copy(update={"at": turn.at + skew}) for turn in bundle.turns)
    messages = tuple(each.model_copy(update={"at": each.at + skew}) for each in bundle.messages)
    timers = tuple(timer.by_clock(skew) for timer in bundle.timers)
    session = bundle.session.model_copy(update={"started": bundle.session.started + skew})
    times = {"at": came, "turns": turns, "messages": messages, "timers": timers, "session": session}
    return bundle.model_copy(update=times)


def under_way(offer: Offer) -> timedelta:
    """Return how long the hub had what it offers: it may have been off meanwhile, which is not how clocks differ."""
    moves = offer.bundle.moves
    return max(timedelta(), offer.at - moves[-1].at) if moves else timedelta()


def came_back(bundle: Bundle, adopt: Adopt, device: str) -> Move:
    """Return the move by which a conversation is with ``device`` again."""
    source = bundle.moves[-1].target if bundle.moves else device
    return Move(source=source, target=device, epoch=adopt.epoch, why=adopt.why)


def keeping(bundle: Bundle, room: str) -> list[Statement]:
    """Return the statements that put a conversation into the store of ``room``, to be committed together.

    What is there already stays as it is: a conversation that comes back finds its own messages.
    """
    session, parents = bundle.session, dict[str, list[str]]()
    for child, parent in bundle.edges:
        parents.setdefault(child, []).append(parent)
    begun = (session.id, room, session.persona, iso(session.started), None)
    statements: list[Statement] = [
        ("INSERT INTO sessions VALUES (?,?,?,?,?) ON CONFLICT DO UPDATE SET ended = NULL", begun)
    ]
    for message in bundle.messages:
        statements += keeping_message(message, parents.get(message.id, ()))
    for turn in bundle.turns:
        row = (turn.session, turn.turn, turn.trace, iso(turn.at), turn.persona, True, turn.model_dump_json())
        statements.append(("INSERT OR REPLACE INTO turns VALUES (?,?,?,?,?,?,?)", row))
    statements += [keeping_timer(timer) for timer in bundle.timers]
    statements += keeping_moves(session.id, bundle.moves)
    return [*statements, *_keeping_summary(bundle)]


def _keeping_summary(bundle: Bundle) -> list[Statement]:
    if not bundle.summary or not bundle.messages:
        return []
    known = [message.id for message in bundle.messages]
    upto = bundle.summary_upto if bundle.summary_upto in known else known[0]
    row = (bundle.session.id, upto, iso(utc_now()), bundle.summary)
    return [("INSERT OR REPLACE INTO summaries VALUES (?,?,?,?)", row)]


def letting_go(timers: Sequence[Timer]) -> list[Statement]:
    """Return the statements by which timers ring here no more, to be committed with others."""
    return [("DELETE FROM timers WHERE id = ?", (timer.id,)) for timer in timers]


def rest_of(trace: str, text: str, *, whole: bool) -> Rest | None:
    """Return the rest of an answer; of one whose model had not finished, without a word that may be half."""
    if not whole and text and text[-1] not in ".!?…\"'”)":
        text = text.rpartition(" ")[0]
    if len(text) > LONGEST_REST:
        text, whole = text[:LONGEST_REST].rpartition(" ")[0], False
    return Rest(trace=trace, text=text.strip(), whole=whole) if text.strip() or not whole else None


@dataclass(frozen=True, slots=True)
class CutOff:
    """The answer that was cut off last; without ``whole`` more of it was still to be made."""

    turn: Turn
    whole: bool = True

    def rest(self) -> Rest | None:
        """Return what is still to be said of it, None where it was heard to its end."""
        return rest_of(self.turn.trace, unspoken(self.turn.said, self.turn.spoken), whole=self.whole)


async def cut_before_a_restart(store: Store, session: str) -> CutOff | None:
    """Return the answer that was cut off where the program ended while a conversation was about to go.

    Raises StoreError.
    """
    turns = await store.history(2, session)
    if not turns or turns[-1].ended is not Ended.MOVED:
        return None
    cut = turns[-1] if turns[-1].said else turns[0]
    return CutOff(cut) if cut.ended in (Ended.MOVED, Ended.INTERRUPTED) else None
