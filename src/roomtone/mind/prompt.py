"""What a language model is told of who it is and where: what stays the same first, what changes last.

A model that has read a text keeps what it made of it for as long as the next text begins alike, so whatever comes
after the first change is read anew at every turn: on a Pi the slowest stage of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from string import Template
from textwrap import shorten

from roomtone.core.persona import Example, Persona
from roomtone.mind.phrases import Phrases

EXAMPLES = 3
"""So many of a persona's examples go into its prompt."""

LIKES, LONGEST_LIKE = 20, 200
"""So many things that the household was heard to like go into every prompt, and so many characters of each."""

FENCE = "context"
"""The mark around what is told beside what was said."""

_FENCES = re.compile(rf"<(?=\s*/?\s*{FENCE}\b)", re.IGNORECASE)

PLACEHOLDERS = ("persona", "room", "household", "preferences", "time_of_day", "language")
"""What ``system_prompt.md`` may name with a dollar sign: ``$room``, or ``${room}`` before a letter; ``$$`` is a
dollar. The time of day is morning, afternoon, evening or night: it changes four times a day, and the prompt with it.
"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and when: the room's name, the present in the household's zone, who lives here and what they like.

    The present is ``known`` once the clock may be believed.
    """

    room: str
    now: datetime
    names: Sequence[str] = ()
    preferences: Mapping[str, str] = field(default_factory=dict)
    known: bool = True


def mistakes_in(template: str) -> list[tuple[str, str]]:
    """List what is wrong with a prompt's placeholders: each with the reason and what mends it."""
    read = Template(template)
    known = ", ".join(f"${name}" for name in PLACEHOLDERS)
    wrong = [
        (f"${name}", f"there is no such placeholder; choose of {known}, or write $$ for a dollar sign")
        for name in read.get_identifiers()
        if name not in PLACEHOLDERS
    ]
    if not wrong and not read.is_valid():
        wrong = [("$", f"a dollar sign stands before no placeholder; write $$, or one of {known}")]
    return wrong


def system_prompt(
    persona: Persona,
    phrases: Phrases,
    where: Surroundings,
    tools: Sequence[str] = (),
    passages: Sequence[str] = (),
) -> str:
    """Return all that a persona's model is told beside what is said, its parts separated by empty lines.

    ``tools`` are what it can do, in words; ``passages`` those of its notes that belong to what was just asked. Raises
    ValueError or KeyError for a template with a placeholder that is none (``mistakes_in`` tells which).
    """
    return "\n\n".join([lasting(persona, phrases, where, tools), passing(phrases, where, passages=passages)])


def lasting(
    persona: Persona,
    phrases: Phrases,
    where: Surroundings,
    tools: Sequence[str] = (),
    likes: Sequence[str] = (),
) -> str:
    """Return what is the same at every turn: the system message.

    ``likes`` are what the household was heard to like, beside what its configuration says. What a template names
    itself is not said again. Raises as ``system_prompt`` does.
    """
    texts = phrases.language.prompt
    parts = [_filled(persona, phrases, where, likes)]
    for key, lines in (("tone", persona.tone_rules), ("constraints", persona.behavior_constraints)):
        parts += ["\n".join([texts[key], *(f"- {line}" for line in lines)])] if lines else []
    if persona.examples:
        shown = [_example(texts, example) for example in persona.examples[:EXAMPLES]]
        parts.append("\n\n".join([texts["examples"], *shown]))
    parts.append(texts["heard"])
    parts.append(texts["fenced"])
    if tools:
        parts.append(texts["tools"].format(tools=_joined(phrases, tools)))
    parts += _around(persona, phrases, where, likes)
    return "\n\n".join(parts)


def _filled(persona: Persona, phrases: Phrases, where: Surroundings, likes: Sequence[str]) -> str:
    texts = phrases.language.prompt
    values = {
        "persona": persona.name,
        "room": where.room,
        "household": _joined(phrases, where.names) or texts["nobody_named"],
        "preferences": _listed(where.preferences, likes) or texts["nothing_known"],
        "time_of_day": phrases.part_of_day(where.now),
        "language": phrases.language.language,
    }
    return Template(persona.system_prompt).substitute(values).strip()


def _around(persona: Persona, phrases: Phrases, where: Surroundings, likes: Sequence[str]) -> list[str]:
    """Return what of the room and its people the persona's own words leave out."""
    texts, named = phrases.language.prompt, Template(persona.system_prompt).get_identifiers()
    parts = [] if "room" in named else [texts["room"].format(room=where.room)]
    if where.names and "household" not in named:
        parts.append(texts["household"].format(names=_joined(phrases, where.names)))
    if (where.preferences or likes) and "preferences" not in named:
        parts.append(texts["preferences"].format(preferences=_listed(where.preferences, likes)))
    return [" ".join(parts)] if parts else []


def passing(
    phrases: Phrases,
    where: Surroundings,
    facts: Sequence[str] = (),
    passages: Sequence[str] = (),
    *,
    clock: bool = True,
) -> str:
    """Return what may be different at every turn: the time, and what is known that belongs to the question.

    Without ``clock`` the time is left out; "" where nothing is left.
    """
    texts = phrases.language.prompt
    told = texts["now" if where.known else "now_unknown"]
    now = told.format(weekday=phrases.weekday(where.now), at=f"{where.now:%Y-%m-%d %H:%M}")
    parts = [now] if clock else []
    if facts:
        parts.append("\n".join([texts["remembered"], *(f"- {' '.join(fact.split())}" for fact in facts)]))
    if passages:
        parts.append("\n".join([texts["notes"], *passages]))
    return fenced("\n".join(parts)) if parts else ""


def fenced(text: str) -> str:
    """Put a text into the fence that, as ``lasting`` has said, holds no orders; nothing in it can close the fence."""
    return f"<{FENCE}>\n{_FENCES.sub('(', text)}\n</{FENCE}>"


def _example(texts: Mapping[str, str], example: Example) -> str:
    shown = texts["example"].format(heard=example.user_message, said=example.assistant_response)
    return f"({example.context}) {shown}" if example.context else shown


def _joined(phrases: Phrases, parts: Sequence[str]) -> str:
    return phrases.joined(parts) if parts else ""


def _listed(preferences: Mapping[str, str], likes: Sequence[str] = ()) -> str:
    heard = (shorten(like, LONGEST_LIKE, placeholder=" ...") for like in likes[:LIKES])
    return "; ".join([*(f"{what}: {how}" for what, how in preferences.items()), *heard])
