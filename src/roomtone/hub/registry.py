"""The devices of the house: which there are, which are there now, and how each stands."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from pydantic import ValidationError

from roomtone.core.dialog import now
from roomtone.core.errors import DeviceNotFound, NewerVersion, PayloadError, StoreError
from roomtone.core.wire import Presence, State, plain, read
from roomtone.hub.database import HubDatabase

log = logging.getLogger(__name__)


class Admission(StrEnum):
    """Whether a device is part of the house: it is, it was taken out of service, or it is shut out."""

    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Device:
    """One device. ``since``: the hub's seconds at which it was last seen to come or to go.

    ``online`` is None until the broker has said so in this run. ``state_at``: the hub's seconds when the state came;
    ``fresh``: it came then from the device itself, and is not what the broker had kept, however old. ``newer``: it
    speaks a later version of the wire.
    """

    id: str
    presence: Presence
    admission: Admission = Admission.ACTIVE
    online: bool | None = None
    since: float = 0.0
    state: State = field(default_factory=State)
    state_at: float = 0.0
    fresh: bool = False
    newer: bool = False
    seen: str = ""

    @property
    def room(self) -> str:
        """Where it stands, as people call it."""
        return self.presence.room or self.presence.name or self.id

    def idle_s(self, at: float) -> float | None:
        """Return the seconds since somebody was last answered there; None where nobody was, or nobody knows."""
        if self.state.idle_s is None or not self.fresh:
            return None
        return self.state.idle_s + at - self.state_at

    def called(self, name: str) -> bool:
        """Say whether a spoken or typed name means this device: its id, room or name."""
        wanted = plain(name)
        return wanted in (plain(self.id), plain(self.room), plain(self.presence.name))


class Registry:
    """All devices, in memory; on the disk, by ``flush``, only what a presence tells, when it has changed."""

    def __init__(self, database: HubDatabase) -> None:
        self._database = database
        self._devices: dict[str, Device] = {}
        self._changed: set[str] = set()

    async def load(self) -> None:
        """Take up the devices that are known from earlier runs."""
        for row in await self._database.read(lambda db: db.execute("SELECT * FROM devices").fetchall()):
            self._devices[row["id"]] = _from_row(row)

    def all(self) -> list[Device]:
        """List the devices that are part of the house, by room."""
        members = [one for one in self._devices.values() if one.admission is Admission.ACTIVE]
        return sorted(members, key=lambda one: (one.room, one.id))

    def everybody(self) -> list[Device]:
        """List the retired and revoked ones too."""
        return sorted(self._devices.values(), key=lambda one: (one.room, one.id))

    def get(self, id_: str) -> Device | None:
        """Return a device that is part of the house."""
        found = self._devices.get(id_)
        return found if found is not None and found.admission is Admission.ACTIVE else None

    def find(self, name: str) -> Device:
        """Return the device that an id, a room or a name means; of several the one that is there and free.

        Raises DeviceNotFound.
        """
        known = self.all()
        meant = [one for one in known if one.id == name] or [one for one in known if one.called(name)]
        if not meant:
            rooms = ", ".join(dict.fromkeys(one.room for one in known)) or "none yet"
            raise DeviceNotFound(f"there is no room called {name}; known are: {rooms}", name=name)
        return min(meant, key=lambda one: (not one.online, one.state.muted, one.state.state != "idle"))

    def on_presence(self, id_: str, payload: bytes, at: float) -> Device:
        """Take a presence; return the device as it is then. Raises PayloadError."""
        presence, newer = _read_presence(id_, payload)
        before = self._devices.get(id_)
        admission = before.admission if before else Admission.ACTIVE
        if before and before.online and presence.online and before.presence.instance != presence.instance:
            log.info("%s was started anew, or two devices have this id", id_)
        if admission is Admission.RETIRED and presence.online:
            admission = Admission.ACTIVE
        if not presence.online and before:  # a last will was written when it came: it knows no more than that
            presence = before.presence.model_copy(update={"online": False})
        moved = before is None or before.online is not presence.online
        device = replace(
            before or Device(id_, presence),
            presence=presence,
            admission=admission,
            online=presence.online,
            since=at if moved or before is None else before.since,
            newer=newer,
            seen=now().isoformat() if moved or before is None else before.seen,
        )
        self._devices[id_] = device
        if before is None or _lasting(before) != _lasting(device):
            self._changed.add(id_)
        return device

    async def flush(self) -> None:
        """Write down which devices have changed, in one commit: a whole house may come at once. Raises StoreError."""
        changed, self._changed = self._changed, set()
        devices = [self._devices[id_] for id_ in changed]
        if not devices:
            return
        try:
            await self._database.do(lambda db: _keep(db, devices))
        except StoreError:
            self._changed |= changed
            raise

    def on_state(self, id_: str, state: State, at: float, *, retained: bool) -> Device:
        """Take a state, which only memory keeps; a device that only a state tells of is known from then on."""
        before = self._devices.get(id_) or Device(id_, Presence(id=id_, online=False))
        device = replace(before, state=state, state_at=at, fresh=not retained)
        self._devices[id_] = device
        return device

    def count_absences_from(self, at: float) -> None:
        """Count from now how long each device has been gone: while the hub was cut off it could not know."""
        self._devices = {id_: replace(one, since=at) for id_, one in self._devices.items()}

    async def look_up_admissions(self) -> None:
        """Take up who was let in or shut out by a command, or by another hub process."""
        rows = await self._database.read(lambda db: db.execute("SELECT id, standing FROM devices").fetchall())
        for row in rows:
            known, admission = self._devices.get(row["id"]), Admission(row["standing"])
            if known is not None and known.admission is not admission:
                self._devices[known.id] = replace(known, admission=admission)

    async def admit(self, id_: str, admission: Admission) -> Device:
        """Take a device out of service, shut it out, or let it in again. Raises DeviceNotFound."""
        device = self._devices.get(id_)
        if device is None:
            raise DeviceNotFound(f"there is no device called {id_}; see: roomtone hub devices", name=id_)
        await self.flush()
        await admit(self._database, id_, admission)
        changed = self._devices[id_] = replace(self._devices[id_], admission=admission)
        return changed


async def admit(database: HubDatabase, id_: str, admission: Admission) -> bool:
    """Write an admission down where no hub runs; return whether the device was known."""
    change = "UPDATE devices SET standing = ? WHERE id = ?"
    return await database.do(lambda db: db.execute(change, (str(admission), id_)).rowcount > 0)


def _read_presence(id_: str, payload: bytes) -> tuple[Presence, bool]:
    """Read a presence; of a later version what this one understands, and True."""
    try:
        presence = read(Presence, payload)
        if presence.id != id_:
            raise PayloadError(f"{id_} says that it is {presence.id}")
        return presence, False
    except NewerVersion:
        raw: Any = json.loads(payload)
        room = raw.get("room")
        kept = {"online": raw.get("online") is True, "room": room if isinstance(room, str) and room else None}
        try:
            return Presence(id=id_, version=str(raw.get("version", ""))[:40], **kept), True
        except ValidationError:
            return Presence(id=id_, online=bool(kept["online"])), True


def _lasting(device: Device) -> tuple[object, ...]:
    return device.presence, device.admission


def _keep(db: sqlite3.Connection, devices: Sequence[Device]) -> None:
    update = ", ".join(f"{column} = excluded.{column}" for column in _CHANGING)
    insert = f"INSERT INTO devices VALUES (?,?,?,?,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET {update}"
    for device in devices:
        presence = device.presence
        row = (
            *(device.id, presence.room, presence.name, presence.version, presence.instance),
            *(json.dumps(presence.capabilities), json.dumps(presence.personas)),
            *(str(device.admission), now().isoformat(), device.seen),
        )
        db.execute(insert, row)
        if device.admission is Admission.ACTIVE:  # who was retired and is there again; nobody comes back from revoked
            db.execute("UPDATE devices SET standing = 'active' WHERE id = ? AND standing = 'retired'", (device.id,))


_CHANGING = ("room", "name", "version", "instance", "capabilities", "personas", "seen")


def _from_row(row: sqlite3.Row) -> Device:
    presence = Presence(
        id=row["id"],
        online=False,
        room=row["room"],
        name=row["name"],
        version=row["version"],
        instance=row["instance"],
        capabilities=tuple(json.loads(row["capabilities"])),
        personas=tuple(json.loads(row["personas"])),
    )
    return Device(row["id"], presence, Admission(row["standing"]), seen=row["seen"])
