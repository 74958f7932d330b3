"""Talking with a language model: what is asked becomes a prompt, and what comes back words, or calls of tools.

Work may begin before it is certain that the person has finished. Nothing is done, and no more than a first sentence
is made ready, until the turn is permitted to answer.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from roomtone.core.continuation import ends_sentence
from roomtone.core.dialog import Message, Offer, Role, Tokens, Turn, new_id
from roomtone.core.errors import EngineError, RoomtoneError
from roomtone.core.persona import Persona
from roomtone.core.sentences import Sentences
from roomtone.core.speakable import speakable
from roomtone.core.thoughts import Aloud
from roomtone.engines.llm import Llm, Options, Piece, Text, ToolCall, Usage
from roomtone.flow import Stream, ahead, close, is_cancelled, task_group
from roomtone.mind import Answer, Household
from roomtone.mind.context import Budget, Count, Past, Prompt, build
from roomtone.mind.knowledge import Notes
from roomtone.mind.memory import Fact, Memory, Recalled
from roomtone.mind.phrases import Phrases
from roomtone.mind.prompt import Surroundings
from roomtone.mind.toolbox import Outcome, Toolbox

log = logging.getLogger(__name__)

ROUNDS = 5
"""How often a model may call tools within one answer: one that never comes to speak is cut short."""

PATIENCE_S = 2.5
"""After so long without a word, the person is told that an answer is on its way."""

LOOK_S = 0.8
"""A tool that takes longer is bridged with a word."""

RECALL_BOUND_S = 2.0
"""A memory that has not answered by then is done without; someone is waiting."""

RECALLED = 5
"""Facts that are told to a model beside a question."""

PASSAGES = 2

PIECES_AHEAD, DELTAS_AHEAD = 8, 256


@dataclass(frozen=True, slots=True)
class Scope:
    """What a turn lends its mind.

    ``group`` ends with the turn. ``waiting`` counts time as an engine's. Until ``permit`` is set nothing may be done.
    ``trace`` and ``session`` say for the record whose turn it is. ``bridges``: somebody waits, and is told so.
    """

    group: asyncio.TaskGroup
    waiting: Callable[[], AbstractContextManager[None]]
    permit: asyncio.Event
    trace: str = ""
    session: Callable[[], str] = str
    bridges: bool = True


@dataclass(frozen=True, slots=True)
class Talk:
    """What personas talk with: one for the house. ``where`` tells the room and who lives there."""

    llm: Llm
    where: Callable[[], Surroundings]
    tools: Toolbox | None = None
    memory: Memory | None = None
    count: Count | None = None
    answers: Callable[[tuple[str, ...]], bool] = lambda _: True
    context: Callable[[tuple[str, ...]], int] = lambda _: 0
    budget: Budget = field(default_factory=Budget)
    route: Callable[[Persona], tuple[str, ...]] = lambda persona: persona.llm.route


@dataclass(frozen=True, slots=True)
class Known:
    """What belongs to a question: facts, passages of the persona's own notes, and what was said before."""

    facts: tuple[Fact, ...] = ()
    likes: tuple[Fact, ...] = ()
    passages: tuple[str, ...] = ()
    past: Past = field(default_factory=Past)


@dataclass(slots=True)
class _Telling:
    """One answer while it is made: what the model is told, and what of its own it has said so far."""

    question: str
    messages: list[Message]
    options: Options
    answer: Answer
    house: Household
    scope: Scope
    put: Callable[[str], Awaitable[None]]
    sentences: Sentences
    aloud: Aloud = field(default_factory=Aloud)
    spoke: bool = False
    tainted: bool = False
    said: str = ""
    agreed: ToolCall | None = None
    calls: list[ToolCall] = field(default_factory=list)


class Talking:
    """How one persona talks."""

    def __init__(self, persona: Persona, phrases: Phrases, talk: Talk, notes: Notes | None = None) -> None:
        self._persona = persona
        self._phrases = phrases
        self._talk = talk
        self._notes = notes

    @property
    def can_answer(self) -> bool:
        """Whether there is a model that may be asked in this task."""
        return self._talk.answers(self._talk.route(self._persona))

    async def know(self, text: str, house: Household) -> Known:
        """Return what belongs to a text, each part looked for beside the others. Raises StoreError."""
        async with task_group() as group:
            past = group.create_task(house.past())
            remembering = group.create_task(self._remember(text, house))
            found = await self._notes.belonging(text, PASSAGES) if self._notes is not None else []
        recalled, likes = remembering.result()
        passages = tuple(each.text for each in found)
        return Known(tuple(each.fact for each in recalled), tuple(likes), passages, past.result())

    async def _remember(self, text: str, house: Household) -> tuple[list[Recalled], list[Fact]]:
        """Return facts and likes. A memory that fails, or is slow, has nothing to say, and the log has why."""
        try:
            async with asyncio.timeout(RECALL_BOUND_S):
                recalled = await house.memory.recall(text, self._persona.id, RECALLED)
                return recalled, await house.memory.preferences(self._persona.id)
        except TimeoutError:
            log.error("the memory had no answer after %g s", RECALL_BOUND_S)
        except RoomtoneError as error:
            log.error("nothing is recalled: %s", error.message)
        except Exception as error:  # a memory from another package may raise anything
            if is_cancelled():
                raise asyncio.CancelledError from error
            log.exception("nothing is recalled")
        return [], []

    async def answer(
        self,
        text: str,
        house: Household,
        scope: Scope,
        known: Known,
        *,
        uses_tools: bool = True,
        tainted: bool = False,
    ) -> Answer:
        """Begin to answer a text. A failure of the model travels through the answer's deltas, in its place.

        ``tainted``: strangers wrote some of the text, so whatever would change anything needs a yes.
        """
        options = self._options(uses_tools=uses_tools)
        prompt = await self._prompt(text, known, options)
        return self._begin(text, prompt, options, house, scope, known, tainted=tainted)

    async def go_on_with(self, agreed: str, offer: Offer, house: Household, scope: Scope) -> Answer:
        """Do what somebody has said yes to (``agreed``, in their words), and tell what came of it."""
        options = self._options()
        prompt = await self._prompt(agreed, Known(past=await house.past()), options)
        call = ToolCall(new_id(), offer.tool, json.dumps(offer.slots, ensure_ascii=False))
        answer = self._begin(agreed, prompt, options, house, scope, Known(), call)
        answer.answered_by = "tool"
        return answer

    async def go_on_from(self, before: Turn, rest: str, house: Household, scope: Scope) -> Answer:
        """Say the rest of a turn's answer that was broken off in another room, and let the model finish it."""
        known = await self.know(before.heard, house)
        earlier, begun = _parted(known.past.messages, before.trace)
        known = replace(known, past=replace(known.past, messages=earlier))
        options = replace(self._options(uses_tools=False), begun=" ".join(filter(None, [begun, rest])))
        prompt = await self._prompt(before.heard, known, options)
        answer = self._begin(before.heard, prompt, options, house, scope, known)
        answer.answered_by, answer.told = before.answered_by, None
        answer.deltas = _behind(rest, answer.deltas)
        return answer

    async def read_ahead(self) -> None:
        """Let the model read what every prompt of this persona's begins with, if it keeps what it has read."""
        prefill = getattr(self._talk.llm, "prefill", None)
        if prefill is not None:
            likes = await self._talk.memory.preferences(self._persona.id) if self._talk.memory else []
            options = self._options()
            prompt = await self._prompt("", Known(likes=tuple(likes)), options)
            await prefill(prompt.messages[:1], options)

    async def _prompt(self, text: str, known: Known, options: Options) -> Prompt:
        tools = options.tools
        budget = replace(self._talk.budget, context=self._talk.context(options.route))
        return await build(
            self._persona,
            self._phrases,
            self._talk.where(),
            known.past,
            text,
            facts=[fact.text for fact in known.facts],
            likes=[fact.text for fact in known.likes],
            passages=known.passages,
            tools=[tool.name for tool in tools],
            besides=[json.dumps({"name": each.name, **each.parameters}) + each.description for each in tools],
            budget=budget,
            count=self._talk.count,
        )

    def _options(self, *, uses_tools: bool = True) -> Options:
        use = self._persona.llm
        return Options(
            max_tokens=use.max_response_tokens,
            temperature=use.temperature,
            top_p=use.top_p,
            stop=use.stop,
            tools=self._talk.tools.specs(self._persona) if self._talk.tools and uses_tools else (),
            persona=self._persona.id,
            adapter=self._persona.model_reference,
            route=self._talk.route(self._persona),
        )

    def _begin(
        self,
        question: str,
        prompt: Prompt,
        options: Options,
        house: Household,
        scope: Scope,
        known: Known,
        call: ToolCall | None = None,
        *,
        tainted: bool = False,
    ) -> Answer:
        stream: Stream[str] = Stream(DELTAS_AHEAD)
        answer = Answer("offline", stream, recalled=tuple(fact.id for fact in known.facts), told=prompt.told)
        telling = _Telling(
            question,
            list(prompt.messages),
            options,
            answer,
            house,
            scope,
            stream.put,
            Sentences(self._phrases.language.language),
            spoke=bool(options.begun),
            tainted=tainted or bool(known.passages),
        )
        if call is not None:
            telling.calls, telling.agreed = [call], call
        scope.group.create_task(stream.fed(self._tell(telling)), name="talking")
        return answer

    async def _tell(self, telling: _Telling) -> None:
        for _ in range(ROUNDS):
            if not telling.calls and not await self._listened(telling):
                return
            if not telling.calls or not await self._use_tools(telling):
                return
        log.warning("the model called tools %d times and came to no answer", ROUNDS)
        await telling.put(self._phrases.say("tools_without_end"))

    async def _listened(self, telling: _Telling) -> bool:
        """Listen to the model; where it has not a word to say, the persona's own notes answer, if there are any."""
        try:
            await self._listen(telling)
        except EngineError:
            found = self._notes.found(telling.question, 1) if self._notes is not None else []
            if telling.spoke or not found:
                raise
            telling.answer.answered_by = "notes"
            await telling.scope.permit.wait()
            await telling.put(self._phrases.say("from_notes", passage=found[0].said(telling.question)))
            return False
        return True

    async def _listen(self, telling: _Telling) -> None:
        """Pass on what the model says until it has ended or calls tools."""
        telling.said, cut = "", False
        async with ahead(self._talk.llm.reply(telling.messages, telling.options), PIECES_AHEAD) as pieces:
            while True:
                with telling.scope.waiting():
                    piece = await self._next(pieces, telling)
                if piece is None:
                    break
                if isinstance(piece, Text):
                    await self._pass_on(piece, telling)
                elif isinstance(piece, ToolCall):
                    telling.calls.append(piece)
                else:
                    cut = piece.cut
                    _count(piece, telling.answer)
        if rest := telling.aloud.rest():
            await telling.put(rest)
        ends = telling.scope.bridges and telling.said and not telling.calls
        if ends and (more := self._afterword(telling.said, cut)):
            await telling.put(more)

    def _afterword(self, said: str, cut: bool) -> str:
        """Return what else a person is told who hears a reply: that it was cut off, or that it cannot be heard."""
        if not speakable(said, self._phrases.language.language):
            return f"\n\n{self._phrases.say('unspeakable')}"
        return f"... {self._phrases.say('cut_short')}" if cut and not ends_sentence(said) else ""

    async def _next(self, pieces: Stream[Piece], telling: _Telling) -> Piece | None:
        """Return the next piece, None after the last; who waits long for a first word is told so once.

        Nobody waits yet before it may be said.
        """
        try:
            while not telling.spoke:
                waited = telling.scope.permit.is_set()
                try:
                    return await pieces.within(PATIENCE_S)
                except TimeoutError:
                    await telling.scope.permit.wait()
                    if waited:
                        await self._bridge(telling, "thinking_on")
                        break
            return await anext(pieces)
        except StopAsyncIteration:
            return None

    async def _bridge(self, telling: _Telling, phrase: str) -> None:
        if telling.scope.bridges and not telling.spoke:
            telling.spoke = True
            await telling.put(f"{self._phrases.say(phrase)} ")

    async def _pass_on(self, piece: Text, telling: _Telling) -> None:
        """Pass on text: a first sentence at once, all else once the turn may answer."""
        if piece.by:
            telling.answer.answered_by = f"llm:{piece.by}"
        text = telling.aloud.of(piece.text)
        if not text:
            return
        telling.spoke = telling.spoke or bool(text.strip())
        telling.said += text
        await telling.put(text)
        if not telling.scope.permit.is_set() and telling.sentences.feed(text):
            await telling.scope.permit.wait()

    async def _use_tools(self, telling: _Telling) -> bool:
        """Run what the model called; return whether it is to go on, knowing the results."""
        await telling.scope.permit.wait()
        calls, telling.calls = telling.calls, []
        telling.messages.append(_called(telling.said, calls))
        outcomes = await self._run(calls, telling)
        for call, outcome in zip(calls, outcomes, strict=True):
            telling.tainted = telling.tainted or outcome.outside
            data = {"call": call.id, "name": call.name}
            telling.messages.append(Message(session="", role=Role.TOOL, text=outcome.text, data=data))
        asking = next((outcome for outcome in outcomes if outcome.offer is not None), None)
        if asking is None:
            return True
        telling.answer.offers = asking.offer
        await telling.put(f" {asking.question}" if telling.said else asking.question)
        return False

    async def _run(self, calls: Sequence[ToolCall], telling: _Telling) -> list[Outcome]:
        """Run calls side by side; where that takes its time, say so."""
        assert self._talk.tools is not None
        tools = self._talk.tools
        with telling.scope.waiting():
            async with task_group() as group:
                running = [
                    group.create_task(
                        tools.run(
                            call,
                            telling.house,
                            agreed=call is telling.agreed,
                            tainted=telling.tainted,
                            trace=telling.scope.trace,
                            session=telling.scope.session(),
                        )
                    )
                    for call in calls
                ]
                _, late = await asyncio.wait(running, timeout=LOOK_S)
                if late:
                    await self._bridge(telling, "looking")
        return [task.result() for task in running]


def _parted(messages: Sequence[Message], trace: str) -> tuple[list[Message], str]:
    """Return what was said before the question of a turn, and all that was answered since."""
    asked = next((place for place, each in enumerate(messages) if each.data.get("trace") == trace), len(messages))
    answered = [each.text for each in messages[asked:] if each.role is Role.ROOMTONE]
    return list(messages[:asked]), " ".join(answered)


async def _behind(text: str, deltas: AsyncIterator[str]) -> AsyncIterator[str]:
    try:
        if text:
            yield text
        async for delta in deltas:
            yield delta
    finally:
        await close(deltas)


def _called(said: str, calls: Sequence[ToolCall]) -> Message:
    listed = [{"id": call.id, "name": call.name, "arguments": call.arguments} for call in calls]
    return Message(session="", role=Role.ROOMTONE, text=said, data={"calls": listed})


def _count(usage: Usage, answer: Answer) -> None:
    used = Tokens(read=usage.input_tokens, cached=usage.cached_tokens, written=usage.output_tokens, cost=usage.cost)
    answer.tokens = used + answer.tokens if answer.tokens is not None else used
