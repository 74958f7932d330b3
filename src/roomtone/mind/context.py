"""What a model is told before it answers: who it is, what was said before, what belongs to the question.

A model that has read a text keeps what it made of it for as long as the next text begins alike, so prompts only grow
at their end: what changes from turn to turn stands before the question in the last message, and is told again word by
word when that message has become an earlier one. What still stands there is not told twice. A window that slid on by
a turn each turn would begin anew each time; so it begins where it did before while that fits, and when it does not
any more, leaves room to grow.
"""

from __future__ import annotations

import logging
import string
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pydantic import AwareDatetime, ValidationError

from roomtone.core.dialog import Message, Noun, Role
from roomtone.core.errors import EngineError
from roomtone.core.persona import Persona
from roomtone.mind.phrases import Phrases
from roomtone.mind.prompt import Surroundings, fenced, lasting, passing

log = logging.getLogger(__name__)

AROUND_A_MESSAGE = 8
"""Tokens that a chat template puts around a message, about: ChatML's marks, role and line ends are six."""

BETWEEN = 2
"""Tokens of the empty line between two parts of one message."""

LETTERS_PER_TOKEN = 3
"""Of English text a token is about four characters (OpenAI, "What are tokens and how to count them?"); of other
languages in Latin letters rather three."""

ROOMY = 0.5
"""So much of its room the conversation takes when its window begins anew: more tells more, less lasts longer."""

LARGEST_SHARE = 4
"""No earlier message, and no summary, takes more than one part in so many of all tokens."""

CLOCK = timedelta(minutes=10)
"""So long the time that was told holds: to read it anew each turn would cost a Pi half a second."""

FEWEST = 64
"""Tokens that a question keeps, however long the rest is."""

CUT = " [...] "
"""Stands for the middle of a text that was too long."""

CUT_OFF = " —"
"""Ends what Roomtone said of a reply when somebody spoke into it."""

COUNTS_KEPT = 2000


@dataclass(frozen=True, slots=True)
class Past:
    """What was said before: the last ``messages`` of a conversation, the oldest first, and a ``summary`` of the rest.

    A reply that was cut short is there as far as it was heard, marked by ``data["cut"]``; one that was not has in
    ``data["meant"]`` what it was before it was made speakable, where that differs. ``data["told"]`` is what
    ``Prompt.told`` was then.
    """

    messages: Sequence[Message] = ()
    summary: str = ""


class Told(Noun):
    """What is to be told again: the text ``before`` a question, and ``since``, the id of the oldest message told.

    ``clock`` is the time that was told before the question, None where it was not.
    """

    before: str = ""
    since: str = ""
    clock: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a conversation goes into one prompt: so many messages, and so many tokens of all together.

    ``context`` is what fits into the model's with its reply, 0 where that is not known.
    """

    messages: int = 20
    tokens: int = 8000
    context: int = 0

    def for_prompt(self, reply: int) -> int:
        """Return the tokens for a prompt that a reply of so many is to follow; at least half of the context."""
        if not self.context:
            return self.tokens
        return min(self.tokens, max(self.context // 2, self.context - reply - AROUND_A_MESSAGE))


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: ``messages``, and ``told``, to be kept with the question or its answer."""

    messages: Sequence[Message]
    told: Told


Count = Callable[[Sequence[str]], Awaitable[Sequence[int]]]
"""Counts the tokens of some texts, by a model's own tokenizer. Raises EngineError."""

Size = Callable[[str], int]


class Counted:
    """A ``Count`` that asks each text once: most of a prompt was in the one before."""

    def __init__(self, count: Count) -> None:
        self._count = count
        self._known: dict[str, int] = {}

    async def __call__(self, texts: Sequence[str]) -> list[int]:
        """Return the tokens of each text. Raises EngineError."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            found = dict(zip(new, await self._count(new), strict=True))
            if len(self._known) + len(new) > COUNTS_KEPT:
                self._known.clear()
            self._known |= found
        return [self._known[text] for text in texts]


def estimated(text: str) -> int:
    """Return about how many tokens a text is, rather too many than too few.

    Letters and spaces of ASCII by ``LETTERS_PER_TOKEN``. All else a token each byte of its UTF-8, which is what a
    byte-level tokenizer makes of a script that it has hardly seen.
    """
    written = text.encode(errors="replace")
    others = len(written.translate(None, _LETTERS))
    return others - (others - len(written)) // LETTERS_PER_TOKEN


_LETTERS = f"{string.ascii_letters} ".encode()


async def build(
    persona: Persona,
    phrases: Phrases,
    where: Surroundings,
    past: Past,
    question: str,
    *,
    facts: Sequence[str] = (),
    likes: Sequence[str] = (),
    passages: Sequence[str] = (),
    tools: Sequence[str] = (),
    besides: Sequence[str] = (),
    budget: Budget = Budget(),
    count: Count | None = None,
) -> Prompt:
    """Return what a model is asked, what stays the same from turn to turn first.

    ``facts`` and ``passages`` belong to this question, ``likes`` to every one; ``tools`` are named, and ``besides``
    are texts that go along with the messages and take tokens too, such as the tools' schemas. ``count`` is asked
    only where the estimate comes near the budget; one that fails is done without.
    """
    whole = budget.for_prompt(persona.llm.max_response_tokens)
    system = lasting(persona, phrases, where, tools, likes)
    exchanges = _exchanges(past.messages, persona.id)
    begun = exchanges[_place(exchanges, told_in(past.messages, persona.id).since) :]
    known = [told_in(exchange, persona.id) for exchange in begun]
    late = not any(told.clock and timedelta(0) <= where.now - told.clock < CLOCK for told in known)
    new = passing(phrases, where, _new(facts, known), _new(passages, known), clock=late)
    everything = passing(phrases, where, facts, passages)
    texts = [system, new, everything, question, past.summary, *besides]
    texts += [message.text for exchange in exchanges for message in exchange]
    size = await _sizes(texts, whole, count)
    room = whole - sum(map(size, besides))
    parts = _Parts(system, phrases.language.prompt["earlier"], past.summary, exchanges, len(begun), new, question)
    prompt = _fitted(parts, budget, room, size)
    if prompt.told.since != (begun[0][0].id if begun else ""):  # what was known may not be there any more
        prompt, late = _fitted(replace(parts, before=everything), budget, room, size), True
    clock = where.now if late and prompt.told.before else None
    return replace(prompt, told=prompt.told.model_copy(update={"clock": clock}))


def _new(told: Sequence[str], known: Sequence[Told]) -> list[str]:
    """Return what was not told already with a message that is told again."""
    before = "\n".join(each.before for each in known)
    return [text for text in told if " ".join(text.split()) not in before and text not in before]


def _place(exchanges: Sequence[Exchange], since: str) -> int:
    """Return the place of the exchange that a message belongs to, 0 where it is in none."""
    return next((place for place, each in enumerate(exchanges) if any(said.id == since for said in each)), 0)


async def _sizes(texts: Sequence[str], whole: int, count: Count | None) -> Size:
    """Return what tells the tokens of each text: by estimate where that leaves no doubt that all fits, uncut."""
    if count is None or sum(map(estimated, texts)) <= whole // LARGEST_SHARE:
        return estimated
    try:
        known = dict(zip(texts, await count(texts), strict=True))
    except EngineError as error:
        log.warning("tokens are estimated: %s", error.message)
        return estimated
    return lambda text: known.get(text) or estimated(text)


Exchange = Sequence[Message]
"""What was asked and what was said to it: they go into a prompt together, or not at all."""


def _exchanges(messages: Sequence[Message], persona: str) -> list[Exchange]:
    """Put what was said in one turn together, in the order in which the turns began; as a model is to read it."""
    turns: dict[str, list[Message]] = {}
    for message in messages:
        if message.role in (Role.PERSON, Role.ROOMTONE) and message.text.strip():
            turns.setdefault(str(message.data.get("trace", message.id)), []).append(message)
    return [_as_told(said, persona) for said in turns.values()]


def _as_told(said: Sequence[Message], persona: str) -> Exchange:
    told = told_in(said, persona)
    exchange = []
    for place, message in enumerate(said):
        text = message.text
        if message.role is Role.PERSON and place == 0 and told.before:
            text = f"{told.before}\n\n{text}"
        elif message.role is Role.ROOMTONE:
            text = text + CUT_OFF if message.data.get("cut") else str(message.data.get("meant") or "").strip() or text
        exchange.append(message.model_copy(update={"text": text}))
    return exchange


def told_in(said: Sequence[Message], persona: str) -> Told:
    """Return what a persona was told last with some messages; what another was told is none of its business."""
    kept: list[Any] = [each.data.get("told") for each in said if each.persona == persona]
    for told in reversed(kept):
        try:
            return Told.model_validate(told)
        except ValidationError:  # there is none, or it is of another version
            continue
    return Told()


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a prompt is made of; ``earlier`` introduces the summary, of ``begun`` exchanges the last prompt told."""

    system: str
    earlier: str
    summary: str
    exchanges: Sequence[Exchange]
    begun: int
    before: str
    question: str


def _fitted(parts: _Parts, budget: Budget, tokens: int, size: Size) -> Prompt:
    """Return the prompt within its budget: all of the system message, then the question, then what went before."""
    most = tokens // LARGEST_SHARE
    room = tokens - size(parts.system) - 2 * (AROUND_A_MESSAGE + BETWEEN)
    question = shortened(parts.question, max(FEWEST, room), size)
    room -= size(question)
    before = shortened(parts.before, room, size) if room >= FEWEST else ""
    room -= size(before)
    system = parts.system
    if parts.summary.strip():
        summary = fenced(f"{parts.earlier} {shortened(parts.summary, most, size)}")
        if size(summary) <= room:
            system = f"{system}\n\n{summary}"
            room -= size(summary)
    said = [[_shortened(message, most, size) for message in exchange] for exchange in parts.exchanges]
    window = _window(said, parts.begun, budget.messages - 1, room, size)
    asked = f"{before}\n\n{question}" if before else question
    messages = [_message(Role.SYSTEM, system), *(message for exchange in window for message in exchange)]
    since = window[0][0].id if window else ""
    return Prompt([*messages, _message(Role.PERSON, asked)], Told(before=before, since=since))


def _window(exchanges: Sequence[Exchange], begun: int, most: int, room: int, size: Size) -> Sequence[Exchange]:
    """Return the exchanges that are told: the last ``begun``, if they fit; else fewer of the newest."""
    if _fitting(exchanges[len(exchanges) - begun :], most, room, size) == begun:
        return exchanges[len(exchanges) - begun :]
    newest = _fitting(exchanges, int(most * ROOMY), int(room * ROOMY), size)
    newest = newest or min(1, _fitting(exchanges, most, room, size))
    return exchanges[len(exchanges) - newest :]


def _fitting(exchanges: Sequence[Exchange], most: int, room: int, size: Size) -> int:
    """Return how many of the newest exchanges fit."""
    fitting = 0
    for exchange in reversed(exchanges):
        most -= len(exchange)
        room -= sum(size(message.text) + AROUND_A_MESSAGE for message in exchange)
        if most < 0 or room < 0:
            break
        fitting += 1
    return fitting


def shortened(text: str, most: int, size: Size = estimated) -> str:
    """Return a text of no more than ``most`` tokens: where it is longer, without its middle."""
    tokens = size(text)
    if tokens <= most:
        return text
    letters = len(text)
    while tokens > most and letters > 0:
        letters = min(letters - 1, letters * max(0, most) * 9 // (tokens * 10))
        kept = f"{text[: letters - letters // 2]}{CUT}{text[len(text) - letters // 2 :]}"
        tokens = estimated(kept)
    return kept if letters > 0 else ""


def _shortened(message: Message, most: int, size: Size) -> Message:
    text = shortened(message.text, most, size)
    return message if text == message.text else message.model_copy(update={"text": text})


def _message(role: Role, text: str) -> Message:
    return Message(session="", role=role, text=text)
