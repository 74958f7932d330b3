"""Which language models there are, who of them is asked in which order, and who rests because it fails.

Privacy goes before everything: a model that may not be told what this task says is never asked, not even in the end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from roomtone import outbound
from roomtone.core.dialog import Tokens
from roomtone.core.errors import EngineError, EngineTimeout, StoreError
from roomtone.core.persona import Egress, Persona, Preference
from roomtone.engines.llm import Llm, LlmError, Trouble
from roomtone.failover import LONGEST_REST_S, REST_S, Line, Place
from roomtone.llm_router.calls import Terms
from roomtone.outbound.accounts import Call
from roomtone.settings import Provider

log = logging.getLogger(__name__)

LONG_REST_S = 3600.0
"""Rest where a person has to mend something first: the key, the credit, the model's name."""

CHECK_S = 10.0
"""Longest that a model may take to say whether it is back."""

NOBODY = ("",)
"""A route on which no model stands."""

_FOR_PEOPLE = (Trouble.KEY, Trouble.CREDIT, Trouble.MODEL)
_OF_THIS_REPLY = (Trouble.TOO_LONG, Trouble.REFUSED)
_FAR = tuple(Egress)[::-1]

OnEvent = Callable[[str, Any], None]
"""Told what happens to models: the kind of an event (``llm.called``) and its data."""


class Books(Protocol):
    """Where calls are kept: ``accounts.Accounts``."""

    def note(self, call: Call) -> None:
        """Keep a call; never waits and never fails."""

    async def today(self, provider: str) -> Tokens:
        """Return what a provider took today. Raises StoreError."""


class LlmLine(Line[Llm]):
    """Language models by name, each with its ``terms``, asked in the order of ``route``.

    ``refused`` are the providers that could not be opened, each with the reason.
    """

    seam = "llm"

    def __init__(
        self,
        in_line: Sequence[tuple[str, Llm]],
        *,
        terms: Mapping[str, Terms] | None = None,
        route: Sequence[str] = (),
        accounts: Books | None = None,
        on_event: OnEvent = lambda *_: None,
        refused: Mapping[str, str] | None = None,
    ) -> None:
        # not Line's own: here the line may be empty
        self.places = tuple(Place(name, engine) for name, engine in in_line)
        self.served_by = self.places[0].name if self.places else ""
        self.refused = dict(refused or {})
        self.terms = {place.name: Terms(Provider(engine="auto")) for place in self.places} | dict(terms or {})
        self._route = tuple(route) or tuple(place.name for place in self.places)
        self._accounts = accounts
        self._on_event = on_event
        self._rests = asyncio.Event()
        self._complained: set[tuple[str, ...]] = set()

    @property
    def health(self) -> str:
        """``ok``, or what is wrong with the model that is asked first."""
        first = self.first()
        return (first.trouble or "ok") if first else "no language model is open"

    # -------------------------------------------------------------------------------------- who is asked

    def route_of(self, persona: Persona) -> tuple[str, ...]:
        """Return whom a persona asks, in order: its own route or the house's, as it prefers them, by their names.

        With ``local_only``, and none in the house, it is a route on which nobody stands.
        """
        known = {place.name: place.engine.host for place in self.places}
        names = [name for name in persona.llm.route if name in known] or [n for n in self._route if n in known]
        self._complain(persona, [n for n in persona.llm.route if n not in known and n not in self.refused])
        far = {name: _FAR.index(outbound.reach(known[name])) for name in names}
        prefer = persona.llm.prefer
        if prefer is Preference.LOCAL_ONLY:
            names = [name for name in names if far[name] <= _FAR.index(Egress.LAN)]
        if prefer is not None:
            names.sort(key=lambda name: -far[name] if prefer is Preference.CLOUD else far[name])
        return tuple(names) or NOBODY

    def _complain(self, persona: Persona, unknown: list[str]) -> None:
        if unknown and (persona.id, *unknown) not in self._complained:
            self._complained.add((persona.id, *unknown))
            names = ", ".join(f"'{name}'" for name in unknown)
            log.warning("persona '%s': llm.route: no provider is called %s; see llm.providers", persona.id, names)

    def in_order(self, route: tuple[str, ...]) -> list[Place[Llm]]:
        """Return those on a route that may be told what this task says, who rests last."""
        known, now = {place.name: place for place in self.places}, _now()
        named = [known[name] for name in dict.fromkeys(route or self._route) if name in known]
        allowed = [place for place in named if outbound.allows(place.engine.host)]
        return sorted(allowed, key=lambda place: place.rests_until > now)

    def first(self, route: tuple[str, ...] = ()) -> Place[Llm] | None:
        """Return whom a route (none: the house's) asks first, None where nobody may be asked."""
        return next(iter(self.in_order(route)), None)

    async def is_used_up(self, place: Place[Llm]) -> bool:
        """Say whether a model took all that it may take today."""
        terms = self.terms[place.name]
        if self._accounts is None or not terms.has_daily_limit:
            return False
        try:
            return terms.used_up(await self._accounts.today(place.name))
        except StoreError as error:
            log.error("what llm '%s' took today is not known, it is not asked: %s", place.name, error.message)
            return True

    # ----------------------------------------------------------------------------------- breaking circuits

    def served(self, place: Place[Llm]) -> None:
        """Note that a model did its work; one that had rested is back."""
        super().served(place)
        place.rests_until = float("-inf")
        if self.terms[place.name].rests:
            self.terms[place.name].rests = False
            log.info("llm '%s' is back", place.name)
            self._on_event("llm.back", {"provider": place.name})

    def failed(self, place: Place[Llm], error: Exception) -> EngineError:
        """Note that a model failed, and let it rest as long as its trouble may last; return why."""
        if not isinstance(error, EngineError):
            log.error("llm '%s': internal error", place.name, exc_info=error)
            error = LlmError(f"{place.name}: internal error: {error}")
        trouble = error.trouble if isinstance(error, LlmError) else Trouble.BUSY
        self._on_event("llm.failed", {"provider": place.name, "trouble": trouble.value, "error": error.message})
        if trouble in _OF_THIS_REPLY:
            log.warning("llm '%s': %s", place.name, error.message)
            return error
        level = logging.DEBUG if place.trouble == error.message else logging.WARNING
        log.log(level, "llm '%s' failed: %s", place.name, error.message)
        place.failures += 1
        place.trouble = error.message
        self._let_rest(place, trouble, error)
        return error

    def _let_rest(self, place: Place[Llm], trouble: Trouble, error: EngineError) -> None:
        now, terms = _now(), self.terms[place.name]
        rest = min(LONGEST_REST_S, REST_S * 2 ** (place.failures - 2)) if place.failures > 1 else 0.0
        if trouble in _FOR_PEOPLE:
            rest = LONG_REST_S
        if trouble is Trouble.LIMIT:
            asked_for = error.retry_after_s if isinstance(error, LlmError) else None
            rest = max(0.0, asked_for) if asked_for is not None else max(rest, REST_S)
            terms.barred_until = now + rest
        place.rests_until = now + rest
        if rest:
            terms.rests = True
            self._rests.set()

    async def recover(self) -> None:
        """Ask each model whether it is back when its rest is over, for as long as this runs; no message is sent."""
        while True:
            resting = [place for place in self.places if self.terms[place.name].rests]
            if not resting:
                self._rests.clear()
                await self._rests.wait()
                continue
            place = min(resting, key=lambda each: each.rests_until)
            if place.rests_until > _now():
                await asyncio.sleep(place.rests_until - _now())
                continue  # by now it may have failed anew, or served
            await self._recover(place)

    async def _recover(self, place: Place[Llm]) -> None:
        check = getattr(place.engine, "check", None)
        if check is None:
            self.terms[place.name].rests = False  # the next turn finds out
            return
        try:
            async with asyncio.timeout(CHECK_S):
                await check()
        except Exception as error:  # another package's engine may raise anything
            late = EngineTimeout(f"{place.name} did not say within {CHECK_S:g} s whether it is back")
            self.failed(place, late if isinstance(error, TimeoutError) else error)
            place.rests_until = max(place.rests_until, _now() + REST_S)
        else:
            self.served(place)


def _now() -> float:
    return asyncio.get_running_loop().time()
