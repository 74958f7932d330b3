"""What a language model is told of who it is and where: what stays the same first, what changes last.

A model that has read a text keeps what it made of it for as long as the next text begins alike, so whatever comes
after the first change is read anew at every turn: on a Pi the slowest stage of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from string import Template

from roomtone.core.persona import Example, Persona
from roomtone.mind.phrases import Phrases

EXAMPLES = 3
"""So many of a persona's examples go into its prompt."""

PLACEHOLDERS = ("persona", "room", "household", "preferences", "time_of_day", "language")
"""What ``system_prompt.md`` may name with a dollar sign: ``$room``, or ``${room}`` before a letter; ``$$`` is a
dollar. The time of day is morning, afternoon, evening or night: it changes four times a day, and the prompt with it.
"""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where and when: the room's name, the present in the household's zone, who lives here and what they like."""

    room: str
    now: datetime
    names: Sequence[str] = ()
    preferences: Mapping[str, str] = field(default_factory=dict)


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
    """Return the system prompt of a persona, its parts separated by empty lines.

    ``tools`` are what it can do, in words; ``passages`` those of its notes that belong to what was just asked. Raises
    ValueError or KeyError for a template with a placeholder that is none (``mistakes_in`` tells which).
    """
    return "\n\n".join([*_lasting(persona, phrases, where, tools), *_passing(phrases, where, passages)])


def _lasting(persona: Persona, phrases: Phrases, where: Surroundings, tools: Sequence[str]) -> list[str]:
    """Return what is the same at every turn."""
    texts = phrases.language.prompt
    values = {
        "persona": persona.name,
        "room": where.room,
        "household": _joined(phrases, where.names) or texts["nobody_named"],
        "preferences": _listed(where.preferences) or texts["nothing_known"],
        "time_of_day": phrases.part_of_day(where.now),
        "language": phrases.language.language,
    }
    parts = [Template(persona.system_prompt).substitute(values)]
    for key, lines in (("tone", persona.tone_rules), ("constraints", persona.behavior_constraints)):
        parts += ["\n".join([texts[key], *(f"- {line}" for line in lines)])] if lines else []
    if persona.examples:
        shown = [_example(texts, example) for example in persona.examples[:EXAMPLES]]
        parts.append("\n\n".join([texts["examples"], *shown]))
    if tools:
        parts.append(texts["tools"].format(tools=_joined(phrases, tools)))
    return parts


def _passing(phrases: Phrases, where: Surroundings, passages: Sequence[str]) -> list[str]:
    """Return what may be different at every turn."""
    texts = phrases.language.prompt
    now = texts["now"].format(room=where.room, time=phrases.time(where.now), date=phrases.date(where.now))
    parts = [now]
    if where.names:
        parts.append(texts["household"].format(names=_joined(phrases, where.names)))
    if where.preferences:
        parts.append(texts["preferences"].format(preferences=_listed(where.preferences)))
    if passages:
        parts.append("\n\n".join([texts["notes"], *passages]))
    return parts


def _example(texts: Mapping[str, str], example: Example) -> str:
    shown = texts["example"].format(heard=example.user_message, said=example.assistant_response)
    return f"({example.context}) {shown}" if example.context else shown


def _joined(phrases: Phrases, parts: Sequence[str]) -> str:
    return phrases.joined(parts) if parts else ""


def _listed(preferences: Mapping[str, str]) -> str:
    return "; ".join(f"{what}: {how}" for what, how in preferences.items())
