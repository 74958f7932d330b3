"""What a hand at a button or knob brings about: a word on the microphone, an answer once more, another loudness."""

from __future__ import annotations

import logging
from collections.abc import Callable

from roomtone.core.dialog import Session, Source, Turn
from roomtone.core.effects import ChangeVolume, SayAgain, Tell
from roomtone.core.errors import RoomtoneError, StoreError
from roomtone.core.signals import Prompt, Signal
from roomtone.mind.phrases import Phrases
from roomtone.mouth import Mouth
from roomtone.store import Store

log = logging.getLogger(__name__)

STEP = 0.05
"""Loudness of one step of a knob; an encoder has about twenty in a full turn."""

QUIETEST = 0.05
"""A knob never turns below: a room that cannot be heard cannot say why."""

BACK = 10
"""Turns to look back through for something that was said: most of them say something."""


class Hand:
    """Carries out what the machine orders of it. ``session`` and ``phrases`` are those of who speaks now."""

    def __init__(
        self,
        session: Callable[[], Session | None],
        store: Store,
        mouth: Mouth,
        phrases: Callable[[], Phrases],
        post: Callable[[Signal], None],
    ) -> None:
        self._session = session
        self._store = store
        self._mouth = mouth
        self._phrases = phrases
        self._post = post

    def tell(self, effect: Tell) -> None:
        """Say one of the room's own phrases."""
        self._post(Prompt(self._phrases().say(effect.notice), Source.BUTTON, verbatim=True, kept=False))

    async def say_again(self, effect: SayAgain) -> None:
        """Say what was said last in the present session once more; that nothing was is said too.

        What it says is taken from the store and not put there again: what was erased is not repeated. No persona
        repeats what another said.
        """
        try:
            turn = await self._last_said()
        except StoreError as error:
            log.error("%s", error.message)
            turn = None
        if turn is None:
            self._post(Prompt(self._phrases().say("nothing_said"), effect.source, verbatim=True, kept=False))
            return
        self._post(Prompt(turn.said, effect.source, verbatim=True, kept=False))

    async def _last_said(self) -> Turn | None:
        """Return the last turn of the session in which something was said. Raises StoreError."""
        session = self._session()
        turns = reversed(await self._store.history(BACK, session.id)) if session is not None else ()
        return next((turn for turn in turns if turn.said), None)

    async def change_volume(self, effect: ChangeVolume) -> None:
        """Be louder or quieter."""
        loudspeaker = self._mouth.loudspeaker
        wanted = loudspeaker.volume + effect.steps * STEP
        loudspeaker.set_volume(min(1.0, max(min(QUIETEST, loudspeaker.volume), wanted)))
        if effect.audibly:
            try:
                await self._mouth.tick()
            except RoomtoneError as error:
                log.warning("no tick: %s", error.message)
