"""The router: a language model made of language models, in order, that goes on in mid-sentence where one breaks off.

Privacy goes before everything: a model that may not be told what this task says is never asked, not even in the end.
Then comes the route, and who rests after failures is asked last. Each wait has a bound. What went out always ends at
the end of a word, and whoever is asked next goes on from there (``core.continuation``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import replace
from typing import Any

from roomtone import engines, logs, outbound
from roomtone.clock import utc_now
from roomtone.core.dialog import Message, Role
from roomtone.core.errors import EgressRefused, EngineError, EngineTimeout, EngineUnavailable
from roomtone.core.persona import Egress
from roomtone.engines.llm import Llm, LlmError, Options, Piece, Text, Trouble, Usage
from roomtone.failover import Place
from roomtone.flow import close, is_cancelled
from roomtone.llm_router import models
from roomtone.llm_router.calls import BYTES_PER_TOKEN, Answer, Attempt, Terms, room
from roomtone.llm_router.line import Books, LlmLine, OnEvent
from roomtone.llm_router.reply import Reply
from roomtone.settings import Provider, Settings

log = logging.getLogger(__name__)

FIRST_PIECE_S, FIRST_PIECE_HERE_S = 8.0, 30.0
"""Longest wait for the first word; a small computer reads a long prompt for many seconds."""

BUDGET_S = 10.0
"""So long after the question, or after the last word of a reply, may a model that failed be asked again."""

PAUSES_S = (0.5, 1.0, 2.0, 4.0)
"""Before each further round through those that may be back."""

LEAST_TOKENS = 50
"""That a model gets which is to end a reply: one that is cut off again helps nobody."""

LAST_WORDS = 6
"""Of a reply that broke off, as the model that goes on is reminded of them."""


class Router(LlmLine):
    """A language model made of those in line.

    ``go_on`` asks a model to go on after ``{last}``, the last words of a reply that broke off.
    """

    continues = False

    def __init__(self, in_line: Sequence[tuple[str, Llm]], go_on: str, **line: Any) -> None:
        super().__init__(in_line, **line)
        self._go_on = go_on

    # --------------------------------------------------------------------------------- itself, as an Llm

    @property
    def host(self) -> str | None:
        """Where messages go first."""
        first = self.first()
        return first.engine.host if first else None

    @property
    def model(self) -> str:
        """The model that is asked first."""
        first = self.first()
        return first.engine.model if first else ""

    @property
    def context(self) -> int:
        """Tokens that fit into every model of the house's route, 0 where there is none."""
        return self.context_of(())

    def context_of(self, route: tuple[str, ...]) -> int:
        """Return the tokens that fit into every model of a route that may be asked: each may have to answer."""
        places = self.in_order(route)
        fits = [getattr(place.engine, "context", 0) or self.terms[place.name].model.context for place in places]
        return min(fits, default=0)

    @property
    def count(self) -> Callable[[Sequence[str]], Awaitable[list[int]]] | None:
        """The tokenizer of the model that is asked first, None where it has none."""
        first = self.first()
        return getattr(first.engine, "count", None) if first else None

    def answers(self, route: tuple[str, ...] = ()) -> bool:
        """Say whether any model on a route (none: the house's) may be asked in this task."""
        return self.first(route) is not None

    async def prefill(self, messages: Sequence[Message], options: Options) -> None:
        """Let the model that would be asked first read what the next messages begin with, if that is of use to it."""
        place = self.first(options.route)
        prefill = getattr(place.engine, "prefill", None) if place else None
        if place is None or prefill is None:
            return
        try:
            async with self._its_turn(place):
                await prefill(*self._as_told(place, messages, options, ""))
        except EngineError as error:
            log.info("llm '%s' could not read ahead: %s", place.name, error.message)

    async def reply(self, messages: Sequence[Message], options: Options) -> AsyncIterator[Piece]:
        """Answer the last message, by one model or by several, as if it were one.

        Raises LlmError, after what was already good, where all failed; EngineUnavailable where none may be asked.
        """
        answer = Answer(room(options.max_tokens), _now(), whole=options.schema is not None, said=options.begun)
        search = _Search(self, options.route, answer)
        while (place := await search.next()) is not None:
            if search.failures:
                told = {"from": search.last, "to": place.name, "words": len(answer.said.split())}
                self._on_event("llm.failover", told)
            pieces = self._asked(place, messages, options, answer)
            try:
                async with self._its_turn(place):  # to wait for one's turn is no silence of the model's
                    async for piece in pieces:
                        yield piece
                break
            except EngineError as error:
                search.failed(place, error)
            finally:
                await close(pieces)
        else:
            raise search.reason()
        yield answer.usage()

    # ------------------------------------------------------------------------------------- asking one

    async def _asked(
        self, place: Place[Llm], messages: Sequence[Message], options: Options, answer: Answer
    ) -> AsyncIterator[Piece]:
        """Ask one model, and give out of its reply what is new. Raises EngineError where it fails."""
        messages, options = self._as_told(place, messages, options, answer.said)
        terms, loop_now = self.terms[place.name], _now()
        terms.asked(loop_now)
        attempt = Attempt(place.name, place.engine.model, terms.model, options, utc_now(), loop_now)
        attempt.status = "cancelled"  # until it is known better: who reads may leave at any time
        pieces = self._pieces(place, messages, options, answer, attempt)
        try:
            async for piece in pieces:
                yield piece
            attempt.status = "cut" if attempt.error else "ok"
            self.served(place)
        except EgressRefused as error:
            attempt.failed(error)
            raise
        except Exception as error:
            if is_cancelled():
                raise asyncio.CancelledError from error
            attempt.failed(error)
            failure = self.failed(place, error)
            if not answer.calls:
                raise failure from error
        finally:
            await close(pieces)
            self._note(attempt, messages, answer)

    async def _pieces(
        self, place: Place[Llm], messages: Sequence[Message], options: Options, answer: Answer, attempt: Attempt
    ) -> AsyncIterator[Piece]:
        """Yield a model's new words and calls; a reply by a schema comes whole, since half of one is of no use."""
        source = place.engine.reply(messages, options)
        reply = Reply(answer)
        patience_s = self._first_piece_s(place)
        try:
            while True:
                began = _now()
                piece = await _next(source, place.name, patience_s)
                patience_s -= _now() - began  # whoever reads may take its time in between
                if piece is None:
                    break
                if isinstance(piece, Usage):
                    attempt.usage, answer.cut = piece, answer.cut or piece.cut
                    break
                is_word = not isinstance(piece, Text) or bool(piece.text.strip())
                if is_word:
                    attempt.heard(piece.text if isinstance(piece, Text) else piece.arguments, _now())
                for new in reply.take(piece):
                    yield replace(new, by=place.name) if isinstance(new, Text) else new
                if reply.ends:
                    attempt.error = reply.ends
                    break
                if is_word:
                    patience_s = self.terms[place.name].provider.stall_s
            for new in reply.end():
                yield replace(new, by=place.name)
        finally:
            await close(source)
        if reply.is_empty:
            raise LlmError(f"{place.name} gave an empty answer", Trouble.NONSENSE)

    def _as_told(
        self, place: Place[Llm], messages: Sequence[Message], options: Options, said: str
    ) -> tuple[Sequence[Message], Options]:
        """Return what one model is told: what it cannot take is left out, and how a reply goes on that broke off."""
        model = self.terms[place.name].model
        options = replace(
            options,
            tools=options.tools if model.tools else (),
            schema=options.schema if model.knows_schema else None,
        )
        if not said:
            return messages, options
        left = options.max_tokens - len(said.encode()) // BYTES_PER_TOKEN
        options = replace(options, max_tokens=max(LEAST_TOKENS, left))
        session = messages[-1].session if messages else ""
        begun = Message(session=session, role=Role.ROOMTONE, text=said.rstrip())
        if place.engine.continues:
            return [*messages, begun], options
        last = " ".join(said.split()[-LAST_WORDS:])
        asks = Message(session=session, role=Role.PERSON, text=self._go_on.replace("{last}", last))
        return [*messages, begun, asks], options

    def _its_turn(self, place: Place[Llm]) -> AbstractAsyncContextManager[Any]:
        alone = getattr(place.engine, "one_at_a_time", False)
        return self.terms[place.name].turnstile if alone else nullcontext()

    def _first_piece_s(self, place: Place[Llm]) -> float:
        terms = self.terms[place.name]
        is_here = outbound.reach(place.engine.host) is Egress.NONE
        usual = FIRST_PIECE_HERE_S if is_here or not terms.model.streaming else FIRST_PIECE_S
        return terms.provider.first_piece_s or usual

    def _note(self, attempt: Attempt, messages: Sequence[Message], answer: Answer) -> None:
        tokens = attempt.tokens(messages)
        answer.tokens += tokens
        answer.by = attempt.provider
        call = attempt.call(tokens, _now(), str(logs.standing().get("trace") or ""))
        if self._accounts is not None:
            self._accounts.note(call)
        self._on_event("llm.called", call)


class _Search:
    """Who is asked next in one reply: all on the route once, then again those that may be back soon."""

    def __init__(self, router: Router, route: tuple[str, ...], answer: Answer) -> None:
        self.failures: dict[str, EngineError] = {}
        self.last = ""
        self._router = router
        self._answer = answer
        self._all = router.in_order(route)
        self._round = list(self._all)
        self._used_up: set[str] = set()
        self._pauses = list(PAUSES_S)

    async def next(self) -> Place[Llm] | None:
        """Return the next to be asked, None where asking on is in vain."""
        while True:
            while self._round:
                place = self._round.pop(0)
                if await self._router.is_used_up(place):
                    self._used_up.add(place.name)
                elif not self._wait_s(place):
                    return place
            pause = self._pause()
            if pause is None:
                return None
            await asyncio.sleep(pause)
            self._round = [place for place in self._all if self._is_passing(place)]

    def failed(self, place: Place[Llm], error: EngineError) -> None:
        """Note that a model failed in this reply."""
        self.failures[place.name], self.last = error, place.name

    def reason(self) -> EngineError:
        """Return why there is no answer."""
        if self.failures:
            last = self.failures[self.last]
            if len(self.failures) == 1 and isinstance(last, (LlmError, EgressRefused)):
                return last
            trouble = last.trouble if isinstance(last, LlmError) else Trouble.BUSY
            why = "; ".join(error.message for error in self.failures.values())
            return LlmError(f"no language model answered: {why}", trouble)
        if self._all:
            names = ", ".join(place.name for place in self._all)
            return LlmError(f"no language model may be asked now: {names} took what they may take", Trouble.LIMIT)
        names = ", ".join(place.name for place in self._router.places)
        if not names:
            return EngineUnavailable("no language model is open; see: roomtone doctor")
        return EngineUnavailable(f"none of the language models ({names}) may be told what is said to this persona")

    def _wait_s(self, place: Place[Llm]) -> float:
        return self._router.terms[place.name].wait_s(_now())

    def _is_passing(self, place: Place[Llm]) -> bool:
        """Say whether a place may answer soon: who was silent is asked again only to end what was begun."""
        error = self.failures.get(place.name)
        if place.name in self._used_up:
            return False
        if isinstance(error, EngineTimeout):
            return bool(self._answer.said)
        if isinstance(error, LlmError):
            return error.trouble in (Trouble.BUSY, Trouble.NONSENSE, Trouble.LIMIT)
        return not isinstance(error, (EgressRefused, EngineUnavailable))

    def _pause(self) -> float | None:
        """Return how long to wait before another round, None where the person would wait in vain."""
        waits = [self._wait_s(place) for place in self._all if self._is_passing(place)]
        if not waits or not self._pauses:
            return None
        pause = max(self._pauses.pop(0), min(waits))
        return pause if _now() + pause <= self._answer.heard_at + BUDGET_S else None


async def _next(pieces: AsyncIterator[Piece], name: str, patience_s: float) -> Piece | None:
    """Return the next piece, None at the end; a bound of its own each time, since nothing may yield inside one."""
    try:
        async with asyncio.timeout(patience_s) as bound:
            return await anext(pieces, None)
    except TimeoutError as error:
        if not bound.expired():
            raise
        raise EngineTimeout(f"{name} gave no word for too long") from error


def _now() -> float:
    return asyncio.get_running_loop().time()


# ------------------------------------------------------------------------------------------------- opening


@asynccontextmanager
async def open_router(
    settings: Settings, go_on: str, accounts: Books | None = None, on_event: OnEvent = lambda *_: None
) -> AsyncIterator[Router]:
    """Open every provider of the configuration, or what ``auto`` finds where there is none, and route between them.

    One that cannot be opened is left out, with a line in the log; the router may have none at all. ``go_on``: see
    ``Router``. ``recover`` is to be run beside it.
    """
    known = models.registry(settings.state_dir)
    opened: list[tuple[str, Llm]] = []
    terms: dict[str, Terms] = {}
    refused: dict[str, str] = {}
    async with AsyncExitStack() as stack:
        for name, provider in (settings.llm.providers or _found()).items():
            try:
                engine = await stack.enter_async_context(_engine(settings, provider))
                await _locate(engine, provider, settings)
            except EngineError as error:
                refused[name] = error.message
                if settings.llm.providers:
                    log.warning("llm '%s' is left out: %s", name, error.message)
                continue
            opened.append((name, engine))
            terms[name] = Terms(provider, known.of(engine.model))
        route = [name for name in settings.llm.route if name in terms] or list(terms)
        yield Router(opened, go_on, terms=terms, route=route, accounts=accounts, on_event=on_event, refused=refused)


def _found() -> dict[str, Provider]:
    return {"local": Provider(engine="auto")}


def _engine(settings: Settings, provider: Provider) -> Any:
    name, own = engines.choose("llm", provider.engine, provider.keys, settings.given)
    return engines.open_engine("llm", name, own)


async def _locate(engine: Llm, provider: Provider, settings: Settings) -> None:
    """Find out how far a provider is. Raises EngineUnavailable where an offline house has none so far."""
    if engine.host is None:
        return
    if provider.reach is not None:
        outbound.declare(engine.host, provider.reach)
    far = await outbound.look_up(engine.host)
    if settings.features.offline_mode and far is Egress.ANY:
        raise EngineUnavailable(f"{engine.host} is beyond the house, and features.offline_mode is on")
