"""Take out of a JSGF grammar what a recogniser's dictionary cannot say, so that the rest of it can be used.

The notation: W3C, JSpeech Grammar Format, 2000, without imports.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_RULE = re.compile(r"(public\s+)?<([^>]+)>\s*=\s*((?:\{(?:\\.|[^}])*\}|[^;{])*);", re.DOTALL)
_TOKEN = re.compile(r"\{(?:\\.|[^}])*\}|<[^>]+>|/[\d.eE+-]+/|\"[^\"]*\"|[()\[\]|*+]|[^\s()\[\]|*+<>{}\"/;]+")


@dataclass(frozen=True, slots=True)
class _Group:
    """Alternatives, each a sequence of parts; written between ``opening`` and its counterpart."""

    opening: str
    alternatives: tuple[tuple[str | _Group, ...], ...]


def prune(grammar: str, knows: Callable[[str], bool]) -> tuple[str, list[str]]:
    """Drop the smallest alternatives that hold a word which is not known, and the rules that are then empty.

    Returns the grammar and the words that were not known, sorted. Raises ValueError where the grammar is none,
    or where nothing of its public rules is left.
    """
    found = _RULE.findall(_COMMENT.sub(" ", grammar))
    rules = {name: _parse(expansion) for _, name, expansion in found}
    unknown: set[str] = set()
    while True:
        kept = {name: _prune(rule, rules, knows, unknown) for name, rule in rules.items()}
        left = {name: rule for name, rule in kept.items() if rule is not None}
        if left == rules:
            break
        rules = left
    lines = [f"{public}<{name}> = {_written(rules[name])};" for public, name, _ in found if name in rules]
    if not any(line.startswith("public") for line in lines):
        lost = ", ".join(sorted(unknown)[:10])
        raise ValueError(
            f"the grammar has no sentence of known words; unknown: {lost or 'none, it has no public rule'}"
        )
    return "\n".join(["#JSGF V1.0;", "grammar commands;", *lines]), sorted(unknown)


def _parse(expansion: str) -> _Group:
    """Read a rule's right side. Raises ValueError where its brackets do not match."""
    stack: list[tuple[str, list[list[str | _Group]]]] = [("(", [[]])]
    for sign in _TOKEN.findall(expansion):
        if sign in "([":
            stack.append((sign, [[]]))
        elif sign in ")]":
            opening, alternatives = stack.pop()
            if not stack or "([".index(opening) != ")]".index(sign):
                raise ValueError(f"the grammar's brackets do not match in: {expansion.strip()[:60]}")
            stack[-1][1][-1].append(_group(opening, alternatives))
        elif sign == "|":
            stack[-1][1].append([])
        else:
            stack[-1][1][-1].append(sign)
    if len(stack) != 1:
        raise ValueError(f"the grammar's brackets do not match in: {expansion.strip()[:60]}")
    return _group(*stack[0])


def _group(opening: str, alternatives: list[list[str | _Group]]) -> _Group:
    return _Group(opening, tuple(tuple(alternative) for alternative in alternatives))


def _prune(group: _Group, rules: dict[str, _Group], knows: Callable[[str], bool], unknown: set[str]) -> _Group | None:
    """Return what can be said of a group, or None where that is nothing."""
    kept = []
    for alternative in group.alternatives:
        parts = _sequence(alternative, rules, knows, unknown)
        if parts is not None:
            kept.append(parts)
    return replace(group, alternatives=tuple(kept)) if kept else None


def _sequence(
    alternative: tuple[str | _Group, ...], rules: dict[str, _Group], knows: Callable[[str], bool], unknown: set[str]
) -> tuple[str | _Group, ...] | None:
    parts: list[str | _Group] = []
    dropped = False
    for part in alternative:
        if dropped and part in ("*", "+"):
            continue
        dropped = False
        if isinstance(part, str):
            if not _sayable(part, rules, knows, unknown):
                return None
            parts.append(part)
            continue
        smaller = _prune(part, rules, knows, unknown)
        dropped = smaller is None
        if smaller is not None:
            parts.append(smaller)
        elif part.opening != "[":
            return None
    return tuple(parts)


def _sayable(sign: str, rules: dict[str, _Group], knows: Callable[[str], bool], unknown: set[str]) -> bool:
    if sign[0] == "<":
        return sign[1:-1] in rules or sign == "<NULL>"
    if sign[0] in "*+/{":
        return True
    missing = {word for word in sign.strip('"').split() if not knows(word)}
    unknown |= missing
    return not missing


def _written(group: _Group) -> str:
    closing = {"(": ")", "[": "]"}[group.opening]
    alternatives = [
        " ".join(part if isinstance(part, str) else _written(part) for part in alternative) or "<NULL>"
        for alternative in group.alternatives
    ]
    return f"{group.opening}{' | '.join(alternatives)}{closing}"
