"""How loud the household made the room stays over a restart and a power cut."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from roomtone.core.errors import StoreError
from roomtone.engines.audio import Loudspeaker
from roomtone.store import Store

log = logging.getLogger(__name__)

VOLUME = "volume"
"""The key under which the store keeps it."""

LOOK_S = 2.0
"""How often the loudspeaker is asked. A knob that is being turned is written once, when it has come to rest."""


async def keep(loudspeaker: Loudspeaker, store: Store, rests: Callable[[], bool]) -> None:
    """Set the volume that was kept; then keep each other one that lasts while the room ``rests``.

    Only while it rests, since a ringing alarm is louder for its own time.
    """
    kept = await _recall(loudspeaker, store)
    before = loudspeaker.volume
    while True:
        await asyncio.sleep(LOOK_S)
        now = loudspeaker.volume
        if now == before and now != kept and rests():
            try:
                await store.keep(VOLUME, now)
            except StoreError as error:
                log.warning("the volume is not kept: %s", error.message)
            kept = now  # a card that cannot be written is not asked again for the same
        before = now


async def _recall(loudspeaker: Loudspeaker, store: Store) -> float:
    """Set the volume that is kept, and return what it is now."""
    try:
        kept: Any = await store.kept(VOLUME)
    except StoreError as error:
        log.warning("the volume that was set is not known: %s", error.message)
        kept = None
    if isinstance(kept, int | float) and 0 < kept <= 1:
        loudspeaker.set_volume(float(kept))
    return loudspeaker.volume
