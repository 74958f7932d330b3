"""What must arrive, kept on the disk until the broker has it: in order, once, and no longer than it is of use."""

from __future__ import annotations

from roomtone.store import Store


class Outbox:
    """The table of what is still to be sent."""

    def __init__(self, store: Store) -> None:
        self._store = store
