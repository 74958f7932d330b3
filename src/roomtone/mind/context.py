"""What a model is told before it answers: who it is, what was said before, what belongs to the question."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from roomtone.core.dialog import Message, Role
from roomtone.core.persona import Persona
from roomtone.mind.phrases import Phrases
from roomtone.mind.prompt import Surroundings, system_prompt


@dataclass(frozen=True, slots=True)
class Past:
    """What was said before: the last ``messages`` of a conversation, the oldest first, and a ``summary`` of the rest.

    A reply that was cut short is there as far as it was heard.
    """

    messages: Sequence[Message] = ()
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much of a conversation goes into one prompt: so many messages, and so many tokens of all together."""

    messages: int = 20
    tokens: int = 8000


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: ``messages``, and ``told``, what stands before the question in the last of them."""

    messages: Sequence[Message]
    told: str = ""


Count = Callable[[Sequence[str]], Awaitable[Sequence[int]]]
"""Counts the tokens of some texts, by a model's own tokenizer."""


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
    budget: Budget = Budget(),
    count: Count | None = None,
) -> Prompt:
    """Return what a model is asked, what stays the same from turn to turn first.

    ``facts`` and ``passages`` belong to this question, ``likes`` to every one; ``tools`` are named.
    """
    system = system_prompt(persona, phrases, where, tools, passages)
    messages = [Message(session="", role=Role.SYSTEM, text=system), *past.messages[-budget.messages :]]
    told = "\n".join(facts)
    asked = f"{told}\n\n{question}" if told else question
    return Prompt([*messages, Message(session="", role=Role.PERSON, text=asked)], told)
