"""Handoffs under way: each message is one transaction, and what follows from it is sent once that is on the disk.

So this process may end anywhere, and another one with the same file, now or later, goes on: what was sent may be sent
again, which every device understands, and what was decided is never decided otherwise.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from functools import partial

from pydantic import ValidationError

from roomtone.clock import elapsed
from roomtone.core.dialog import new_id, now
from roomtone.core.errors import PayloadError, StoreError
from roomtone.core.handoff import (
    ADOPT_WAITS_S,
    MOST_EPOCH,
    Event,
    Handoff,
    Late,
    Offline,
    Online,
    Own,
    Phase,
    Replied,
    Send,
    read_id,
    step,
)
from roomtone.core.wire import Bundle, Code, Release, Reply, State
from roomtone.hub import sessions
from roomtone.hub.database import HubDatabase
from roomtone.hub.lost import Lost
from roomtone.hub.registry import Registry

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""How often another process's handoffs are looked at, should it have ended."""

TELL_AGAIN_S = 5.0
"""A device that goes on with what is another's is told so once in this time."""

DISK_AGAIN_S = 10.0
"""So long after the disk failed it is tried again."""

HISTORY = 1000
"""Handoffs that are kept to be looked at."""

Deliver = Callable[[Send], Awaitable[None]]


class Handoffs:
    """``deliver`` sends a command to a device; where it cannot, it is sent again later."""

    def __init__(self, database: HubDatabase, registry: Registry, deliver: Deliver) -> None:
        self._database = database
        self._registry = registry
        self._deliver = deliver
        self._news = asyncio.Event()
        self._known: dict[str, tuple[str, int]] = {}
        self._told: dict[str, float] = {}
        self._lost = Lost()

    # ------------------------------------------------------------------------------------------ events

    async def begin(self, moving: Handoff, refusal: Callable[[sqlite3.Connection], Reply | None]) -> Reply | None:
        """Begin a handoff, unless ``refusal`` has one, within the transaction that it looks in; return that.

        One that has begun already is gone on with.
        """

        def work(db: sqlite3.Connection) -> tuple[Reply | None, list[Send]]:
            if db.execute("SELECT 1 FROM handoffs WHERE id = ?", (moving.id,)).fetchone():
                return None, []
            refused = refusal(db)
            if refused is not None:
                return refused, []
            db.execute("DELETE FROM handoffs WHERE session = ? AND source = target", (moving.session,))
            owned = sessions.owned(db, moving.session)
            newest = replace(moving, epoch=max(moving.epoch, owned.epoch if owned else 0))
            if newest.epoch > MOST_EPOCH:
                raise PayloadError(f"no conversation has an epoch of {newest.epoch}")
            _insert(db, newest)
            return None, _advance(db, newest, Late(), at)[1]

        at = elapsed()
        refused, sends = await self._database.do(work)
        await self._send(sends)
        return refused

    async def on_reply(self, device: str, reply: Reply) -> None:
        """Take what a device answered to a command of a handoff; anything else is not for here."""
        about = read_id(reply.of)
        if about is None:
            return
        id_, phase, number = about
        code, bundle = ("" if reply.ok else reply.code or Code.NOT_HERE), None
        if phase is Phase.RELEASING and reply.ok:
            try:
                bundle = Bundle.model_validate(reply.data.get("bundle"))
            except ValidationError as error:
                log.warning(
                    "%s let go of a session and sent what cannot be read: %s", device, error.errors()[0]["msg"]
                )
                code = PayloadError.code
        await self._happened(id_, Replied(phase, number, code, bundle), by=device)

    async def on_online(self, device: str) -> None:
        """Send at once what is owed to a device that has come back, and tell it which sessions are its own."""
        for id_ in await self._database.read(lambda db: _owed_to(db, device)):
            await self._happened(id_, Online(device))
        at = elapsed()
        self._known = {session: known for session, known in self._known.items() if known[0] != device}
        await self._database.do(lambda db: _confirm(db, device, at))
        self._news.set()

    async def on_state(self, device: str, state: State) -> None:
        """Learn whose a session is where this house's hub has forgotten it, and correct a device that is behind."""
        self._lost.note(device, state.released, elapsed())
        if state.session is None or state.epoch > MOST_EPOCH:
            return
        session, epoch = state.session, state.epoch
        if self._known.get(session) == (device, epoch):
            return
        owned = await self._database.read(lambda db: sessions.owned(db, session))
        if owned is None and epoch == 0:  # it never left its room, which is no business of the house
            self._known[session] = (device, 0)
        elif owned is None or owned.epoch < epoch:
            log.info("%s goes on with session %s, epoch %d", device, session[:8], epoch)
            await self._learn(device, sessions.Owned(session, device, epoch), owned)
            self._known[session] = (device, epoch)
        elif owned.owner == device:
            self._known[session] = (device, max(owned.epoch, epoch))
        else:
            await self._correct(device, owned)

    async def _learn(self, device: str, now_owned: sessions.Owned, before: sessions.Owned | None) -> None:
        """Write down what a device knows better, owe it the word that it may go on, and stop who did before."""
        session, epoch, at = now_owned.session, now_owned.epoch, elapsed()

        def work(db: sqlite3.Connection) -> None:
            sessions.own(db, session, device, epoch, "")
            _confirm(db, device, at)

        await self._database.do(work)
        if before is not None and before.owner != device:
            await self._correct(before.owner, now_owned)
        self._news.set()

    async def _correct(self, device: str, owned: sessions.Owned) -> None:
        at = elapsed()
        if at - self._told.get(device, -TELL_AGAIN_S) < TELL_AGAIN_S:
            return
        self._told[device] = at
        owner = self._registry.get(owned.owner)
        room = owner.room if owner else owned.owner
        release = Release(
            handoff=owned.handoff, session=owned.session, epoch=owned.epoch, target=owned.owner, target_room=room
        )
        await self._send([Send(device, release)])

    # ------------------------------------------------------------------------------------------ running

    async def run(self, up: Callable[[], bool]) -> None:
        """Take on what is due, for as long as this runs; nothing while the link is not ``up``."""
        latest = elapsed() + max(ADOPT_WAITS_S)
        await self._database.do(lambda db: _after_a_start(db, latest))
        while True:
            try:
                await self._look(up)
            except StoreError as error:
                log.error("conversations stay where they are until the disk can be written: %s", error.message)
                await asyncio.sleep(DISK_AGAIN_S)

    async def _look(self, up: Callable[[], bool]) -> None:
        self._news.clear()
        due = await self._database.read(_next_due) if up() else None
        try:
            async with asyncio.timeout(LOOK_S if due is None else min(LOOK_S, max(0.0, due - elapsed()))):
                await self._news.wait()
        except TimeoutError:
            # Another process may have moved any of them; one that never left leaves only by what its room is told.
            present = {one.state.session for one in self._registry.all()}
            self._known = {key: known for key, known in self._known.items() if known[1] == 0 and key in present}
            if up():
                await self.find_lost()
                await self.take_due()

    async def take_due(self) -> None:
        """Take on every handoff whose time has come."""
        at = elapsed()
        for id_, addressee in await self._database.read(lambda db: _due(db, at)):
            device = self._registry.get(addressee)
            if device is None:  # taken out of service, or shut out
                await self._happened(id_, Offline(addressee, math.inf))
            else:
                gone = device.online is False
                await self._happened(id_, Offline(addressee, at - device.since) if gone else Late())

    async def find_lost(self) -> None:
        """Take on what a room let go of and nobody has, as far as this hub's file tells: it was lost meanwhile.

        It is called once every room has told how it stands.
        """
        at = elapsed()
        for source, gone in self._lost.due(at):
            target = self._registry.get(gone.target)
            room = target.room if target else gone.target
            id_ = gone.handoff or new_id()
            lost = Handoff(id_, gone.session, source, gone.target, room, gone.epoch + 1, phase=Phase.ADOPTING)
            await self._send(await self._database.do(partial(_take_up, lost=lost, at=at)))

    async def _happened(self, id_: str, event: Event, by: str | None = None) -> None:
        def work(db: sqlite3.Connection) -> tuple[Handoff | None, list[Send]]:
            handoff = _load(db, id_)
            if handoff is None or (by is not None and by != handoff.addressee):
                return None, []
            return _advance(db, handoff, event, at)

        at = elapsed()
        handoff, sends = await self._database.do(work)
        if handoff is not None:
            self._known.pop(handoff.session, None)
        if handoff is not None and handoff.phase is Phase.OVER:
            log.info("session %s is with %s now, epoch %d", handoff.session[:8], handoff.owner, handoff.epoch)
        await self._send(sends)

    async def _send(self, sends: list[Send]) -> None:
        for send in sends:
            await self._deliver(send)
        self._news.set()


# ------------------------------------------------------------------------------------- in a transaction


def under_way(db: sqlite3.Connection, session: str) -> bool:
    """Say whether a session is on its way, or was and nobody has confirmed where it is."""
    where = "session = ? AND phase != 'over' AND source != target"
    return bool(db.execute(f"SELECT 1 FROM handoffs WHERE {where}", (session,)).fetchone())


def expected_at(db: sqlite3.Connection, target: str) -> bool:
    """Say whether another session is on its way to a device, which takes one at a time."""
    where = "target = ? AND phase IN ('releasing', 'offering')"
    return bool(db.execute(f"SELECT 1 FROM handoffs WHERE {where}", (target,)).fetchone())


def _advance(db: sqlite3.Connection, handoff: Handoff, event: Event, at: float) -> tuple[Handoff, list[Send]]:
    after, orders = step(handoff, event, at)
    if after != handoff:
        _save(db, handoff, after)
    for order in orders:
        if isinstance(order, Own):
            sessions.own(db, order.session, order.owner, order.epoch, handoff.id)
    return after, [order for order in orders if isinstance(order, Send)]


def _insert(db: sqlite3.Connection, handoff: Handoff) -> None:
    row = (handoff.id, handoff.session, handoff.source, handoff.target, handoff.phase, handoff.due, now().isoformat())
    db.execute("INSERT INTO handoffs VALUES (?,?,?,?,?,?,?,?,?,NULL)", (*row, handoff.why, _data(handoff)))
    db.execute(
        "DELETE FROM handoffs WHERE phase = 'over' AND rowid <= (SELECT max(rowid) FROM handoffs) - ?", (HISTORY,)
    )


def _save(db: sqlite3.Connection, before: Handoff, after: Handoff) -> None:
    change = "UPDATE handoffs SET phase = ?, due = ?, why = ?, data = ? WHERE id = ?"
    db.execute(change, (after.phase, after.due, after.why, _data(after), after.id))
    if after.phase is Phase.OVER and after.source == after.target:
        db.execute("DELETE FROM handoffs WHERE id = ?", (after.id,))  # it was only confirmed, and has no history
    elif after.phase is Phase.OVER:  # what was said is the rooms' to keep, not the hub's
        db.execute("UPDATE handoffs SET bundle = NULL WHERE id = ?", (after.id,))
    elif after.bundle is not before.bundle and after.bundle is not None:
        db.execute("UPDATE handoffs SET bundle = ? WHERE id = ?", (after.bundle.model_dump_json(), after.id))


def _data(handoff: Handoff) -> str:
    return json.dumps({one.name: getattr(handoff, one.name) for one in fields(handoff) if one.name != "bundle"})


def _load(db: sqlite3.Connection, id_: str) -> Handoff | None:
    row = db.execute("SELECT data, bundle FROM handoffs WHERE id = ? AND phase != 'over'", (id_,)).fetchone()
    if row is None:
        return None
    kept = json.loads(row["data"])
    bundle = Bundle.model_validate_json(row["bundle"]) if row["bundle"] else None
    return Handoff(**{**kept, "phase": Phase(kept["phase"]), "bundle": bundle})


def _addressee(row: sqlite3.Row) -> str:
    to_target = row["phase"] in (Phase.OFFERING, Phase.ADOPTING)
    return str(row["target"] if to_target else row["source"])


def _due(db: sqlite3.Connection, at: float) -> list[tuple[str, str]]:
    rows = db.execute("SELECT id, phase, source, target FROM handoffs WHERE phase != 'over' AND due <= ?", (at,))
    return [(row["id"], _addressee(row)) for row in rows]


def _next_due(db: sqlite3.Connection) -> float | None:
    due: float | None = db.execute("SELECT min(due) FROM handoffs WHERE phase != 'over'").fetchone()[0]
    return due


def _owed_to(db: sqlite3.Connection, device: str) -> list[str]:
    where = "phase IN ('adopting', 'returning') AND (source = :device OR target = :device)"
    return [row["id"] for row in db.execute(f"SELECT id FROM handoffs WHERE {where}", {"device": device})]


def _confirm(db: sqlite3.Connection, device: str, at: float) -> None:
    """Owe a device the word that its sessions are still its own: it waits for that after a start.

    It is a handoff that has come back to where it never left.
    """
    for one in sessions.of_device(db, device):
        known = db.execute("SELECT 1 FROM handoffs WHERE session = ? AND phase != 'over'", (one.session,))
        if not known.fetchone():
            _insert(
                db,
                Handoff(
                    id=new_id(), session=one.session, source=device, target=device, target_room="", epoch=one.epoch,
                    phase=Phase.RETURNING, speaks=False, due=at,
                ),
            )  # fmt: skip


def _take_up(db: sqlite3.Connection, lost: Handoff, at: float) -> list[Send]:
    """Go on with a handoff of which nothing is known but that its source has let go, unless something is.

    The target may have been told to adopt: so it is asked first, and the source has it back only afterwards.
    """
    owned = sessions.owned(db, lost.session)
    elsewhere = owned is not None and (owned.epoch, owned.owner != lost.source) >= (lost.epoch - 1, True)
    if elsewhere or under_way(db, lost.session):
        return []
    log.warning("session %s is in no room; it is looked for", lost.session[:8])
    db.execute("DELETE FROM handoffs WHERE session = ? AND source = target", (lost.session,))
    sessions.own(db, lost.session, lost.target, lost.epoch, lost.id)
    _insert(db, lost)
    return _advance(db, lost, Late(), at)[1]


def _after_a_start(db: sqlite3.Connection, latest: float) -> None:
    """Let nothing be due later than it can be: the machine's seconds begin anew when it is started."""
    db.execute("UPDATE handoffs SET due = min(due, ?) WHERE phase != 'over'", (latest,))
