"""All that can be understood, as a graph of words: printed as JSGF for a recogniser, and asked what may follow.

The graph is made from hassil's parse trees, the same that understand typed text. What cannot be spoken word by
word (digits, a percent sign, wildcards) is left out.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, permutations
from random import Random

from hassil.expression import (
    Alternative,
    Expression,
    ListReference,
    Permutation,
    RuleReference,
    Sentence,
    TextChunk,
)
from hassil.expression import Sequence as Row
from hassil.intents import RangeSlotList, SlotList, TextSlotList
from hassil.numbers import get_rbnf_engine
from hassil.sample import sample_expression

MAX_GLUED = 5_000
"""Bound on the spellings of a word that a template puts together from parts."""


@dataclass(frozen=True, slots=True)
class Word:
    """One word, lower case."""

    text: str


@dataclass(frozen=True, slots=True)
class Then:
    """One after the other; without items, silence."""

    items: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Either:
    """One of several, or with ``optional`` none of them."""

    items: tuple[Node, ...]
    optional: bool = False


Node = Word | Then | Either
SILENCE = Then()


def then(items: Iterable[Node | None]) -> Node | None:
    """Put nodes in a row; None, what cannot be said, makes the whole row so."""
    row: list[Node] = []
    for item in items:
        if item is None:
            return None
        row.extend(item.items if isinstance(item, Then) else [item])
    return row[0] if len(row) == 1 else Then(tuple(row))


def either(items: Iterable[Node | None], optional: bool = False) -> Node | None:
    """Offer nodes as alternatives, those that can be said; None where there are none."""
    said = list(dict.fromkeys(item for item in items if item is not None))
    left = tuple(item for item in said if item != SILENCE)
    optional = optional or SILENCE in said
    if not left:
        return SILENCE if optional else None
    return left[0] if len(left) == 1 and not optional else Either(left, optional)


def words(text: str) -> tuple[str, ...] | None:
    """Split a text into lower-case words as they are spoken; None where it holds digits or symbols."""
    spoken = re.sub(r"[-–—\s]+", " ", text.replace("’", "'")).strip(" .,;:?!").lower().split()
    spoken = [word.strip(".,;:?!") for word in spoken]
    return tuple(spoken) if all(word.replace("'", "").isalpha() for word in spoken) else None


def factored(phrases: Iterable[tuple[str, ...]]) -> Node | None:
    """Offer phrases as alternatives, sharing what they have in common (twenty and thirty, one to nine)."""
    tails: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    ended = False
    for phrase in phrases:
        ended |= not phrase
        if phrase:
            tails[phrase[0]].add(phrase[1:])
    heads: dict[frozenset[tuple[str, ...]], list[str]] = defaultdict(list)
    for word, rests in tails.items():
        heads[frozenset(rests)].append(word)
    branches = [then([either(map(Word, some)), factored(sorted(rests))]) for rests, some in heads.items()]
    return either(branches, optional=ended)


class Converter:
    """Turns one skill's hassil templates into nodes, each list and rule once."""

    def __init__(self, language: str, lists: Mapping[str, SlotList], rules: Mapping[str, Sentence]) -> None:
        self._language = language
        self._lists = dict(lists)
        self._rules = dict(rules)
        self._known: dict[str, Node | None] = {}

    def node(self, expression: Expression) -> Node | None:
        """Convert a template; None where it cannot be spoken (it holds a wildcard).

        Raises ValueError for an unknown list or rule, and for a template that cannot be cut into words.
        """
        if isinstance(expression, TextChunk):
            spoken = words(expression.text)
            return None if spoken is None else then(map(Word, spoken))
        if isinstance(expression, Alternative):
            return either(map(self.node, expression.items), expression.is_optional)
        if isinstance(expression, Permutation):
            return either(then(map(self.node, order)) for order in permutations(expression.items))
        if isinstance(expression, Row):
            return then(map(self._run, _runs(expression.items)))
        return self._reference(expression)

    def _reference(self, expression: Expression) -> Node | None:
        if isinstance(expression, RuleReference):
            name = f"<{expression.rule_name}>"
        elif isinstance(expression, ListReference):
            name = f"{{{expression.list_name}}}"
        else:
            raise ValueError(f"no part of a template: {expression}")
        if name not in self._known:
            self._known[name] = self._named(name)
        return self._known[name]

    def _named(self, name: str) -> Node | None:
        rule, values = self._rules.get(name.strip("<>")), self._lists.get(name.strip("{}"))
        if name.startswith("<") and rule:
            return self.node(rule.expression)
        if not name.startswith("{") or not values:
            raise ValueError(f"there is no list or rule {name}")
        if isinstance(values, TextSlotList):
            return either(self.node(value.text_in) for value in values.values)
        if isinstance(values, RangeSlotList):
            engine = get_rbnf_engine(values.words_language or self._language)
            spoken = (words(engine.format_number(number).text) for number in values.get_numbers())
            return factored(phrase for phrase in spoken if phrase)
        return None

    def _run(self, run: list[Expression]) -> Node | None:
        """Convert what stands between two spaces of a template."""
        if len(run) == 1:
            return self.node(run[0])
        spelt = list(islice(sample_expression(Row(items=run), self._lists, self._rules, self._language), MAX_GLUED))
        if len(spelt) == MAX_GLUED:
            raise ValueError("too many spellings of one word; put a space between its parts")
        return factored(phrase for phrase in dict.fromkeys(map(words, spelt)) if phrase is not None)


def _runs(items: Iterable[Expression]) -> list[list[Expression]]:
    """Cut a row at its spaces: "timer[s] for {n}" comes to timer[s], for, {n}."""
    runs: list[list[Expression]] = [[]]
    for item in items:
        if not isinstance(item, TextChunk):
            runs[-1].append(item)
            continue
        for piece in re.split(r"(\s+)", item.text):
            if piece.isspace():
                runs.append([])
            elif piece:
                runs[-1].append(TextChunk(piece))
    return [run for run in runs if run]


def vocabulary(node: Node) -> set[str]:
    """Return the words of a graph."""
    return {node.text} if isinstance(node, Word) else set().union(*map(vocabulary, node.items))


def sample(node: Node, random: Random) -> str:
    """Return one sentence of a graph, drawn at random."""
    if isinstance(node, Word):
        return node.text
    if isinstance(node, Then):
        return " ".join(filter(None, (sample(item, random) for item in node.items)))
    if node.optional and random.random() < 0.5:
        return ""
    return sample(random.choice(node.items), random)


class Reader:
    """Follows a text through a graph; ``unfinished`` says whether some sentence goes on where the text ends."""

    def __init__(self, text: Sequence[str]) -> None:
        self._text = text
        self.unfinished = False

    def ends(self, node: Node, starts: frozenset[int]) -> frozenset[int]:
        """Return where a node can end when it starts at any of ``starts`` (indices of words)."""
        if isinstance(node, Word):
            self.unfinished |= len(self._text) in starts
            return frozenset(at + 1 for at in starts if at < len(self._text) and self._text[at] == node.text)
        if isinstance(node, Then):
            for item in node.items:
                if not starts:
                    break
                starts = self.ends(item, starts)
            return starts
        found = starts if node.optional else frozenset()
        return found.union(*(self.ends(item, starts) for item in node.items))


def begins(node: Node, text: Sequence[str]) -> bool:
    """Say whether a text is the beginning of a sentence of the graph, with at least one word more to come."""
    reader = Reader(text)
    reader.ends(node, frozenset({0}))
    return reader.unfinished


def utterance(before: Node, after: Node, commands: Iterable[Node], alone: Iterable[Node]) -> Node:
    """Return the graph of all that can be said: commands with politeness around, ``alone`` without."""
    polite = then([either([before], optional=True), either(commands), either([after], optional=True)])
    return either([polite, *alone]) or SILENCE


def jsgf(polite: Mapping[str, Node], commands: Mapping[str, Node], alone: Mapping[str, Node]) -> str:
    """Print what ``utterance`` offers as JSGF, one rule a line; ``polite`` may hold ``before`` and ``after``."""
    rules = {**polite, **commands, **alone}
    around = {name: f"[<{name}>]" if name in polite else "" for name in ("before", "after")}
    command = " | ".join(f"<{name}>" for name in commands)
    politely = [f"{around['before']} ({command}) {around['after']}".strip()] if commands else []
    public = " | ".join([*politely, *(f"<{name}>" for name in alone)])
    lines = [f"<{name}> = {_printed(node)};" for name, node in rules.items()]
    return "\n".join(["#JSGF V1.0;", "grammar roomtone;", f"public <utterance> = {public};", *lines, ""])


def _printed(node: Node) -> str:
    if isinstance(node, Word):
        return node.text
    if isinstance(node, Then):
        return " ".join(map(_printed, node.items)) or "<NULL>"
    inside = " | ".join(map(_printed, node.items))
    return f"[{inside}]" if node.optional else f"({inside})"
