"""What a room let go of and no other has, as far as this hub knows: its file was lost in the middle of a handoff."""

from __future__ import annotations

from collections.abc import Sequence

from roomtone.core.handoff import EXPIRES_S, MOST_EPOCH
from roomtone.core.wire import LetGo

SURE_S = EXPIRES_S + 1.0
"""So long it is waited: until then what an earlier hub has sent may still arrive, and give it to one of the two."""

KNOWN = 1000
"""Of so many it is remembered that they were looked up."""


class Lost:
    """Notes what rooms have let go of. Times are the hub's own seconds."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[str, LetGo, float]] = {}
        self._looked_up: set[LetGo] = set()

    def note(self, device: str, released: Sequence[LetGo], at: float) -> None:
        """Take what a device says that it let go of; what it says so of no more was found."""
        said = set(released)
        self._waiting = {id_: one for id_, one in self._waiting.items() if one[0] != device or one[1] in said}
        for gone in said - self._looked_up:
            newest = self._waiting.get(gone.session)
            if gone.epoch <= MOST_EPOCH and (newest is None or newest[1].epoch < gone.epoch):
                self._waiting[gone.session] = device, gone, at

    def due(self, at: float) -> list[tuple[str, LetGo]]:
        """Return what is to be looked up now, each with the device that let go of it, and only once."""
        due = [(device, gone) for device, gone, since in self._waiting.values() if at - since >= SURE_S]
        for _, gone in due:
            del self._waiting[gone.session]
            if len(self._looked_up) >= KNOWN:
                self._looked_up.clear()
            self._looked_up.add(gone)
        return due
