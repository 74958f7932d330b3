"""A JSGF grammar as a small graph of words that says the same sentences.

pocketsphinx compiles JSGF by itself, but leaves a step without a word wherever an alternative begins or ends: three
times as many steps as words, all walked in every frame. It also refuses a whole grammar for one word that its
dictionary lacks; here just the sentences with that word are missing. Each step takes 2 kB in pocketsphinx, so what
may be said in many places, such as the names of timers, stands in the graph once.

The notation: JSpeech Grammar Format, W3C note, 2000, without imports; tags and weights are passed over.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_PASSED_OVER = re.compile(r"\{(?:\\.|[^}])*\}|/[\d.eE+-]+/")
_RULE = re.compile(r"(public\s+)?<([^<>]+)>\s*=([^;]*);")
_SIGN = re.compile(r"<[^<>]+>|[()\[\]|*+]|[^\s()\[\]|*+<>\";]+")

Step = tuple[int, int, str]
Skips = tuple[tuple[int, int], ...]
Edges = dict[int, list[tuple[str, int]]]
"""Out of each state: a word, "" for none, and the state it leads to."""


SKIP_COST, STATE_COST = 2, 4
"""What a state from which one skips, and one to skip to, take of pocketsphinx's memory: as much as so many steps."""

SILENCE = "SIL"
"""The sound before the first word."""


@dataclass(frozen=True, slots=True)
class Graph:
    """Sentences lead from state 0 to any of ``ends``; each step is (from, to, word), each skip (from, to).

    A skip's state has skips neither into it nor out of its other end. ``unknown`` are the words that had to be left
    out, sorted.
    """

    steps: tuple[Step, ...]
    skips: Skips
    ends: frozenset[int]
    unknown: tuple[str, ...]


def graph(
    grammar: str, knows: Callable[[str], bool], endings: Callable[[str], Iterable[str]] = lambda _: ()
) -> Graph:
    """Compile a grammar to a small graph, without the words that are not known; ``endings`` are a word's last sounds.

    Raises ValueError for text that is no grammar, and where not one sentence is left.
    """
    plain = _PASSED_OVER.sub(" ", _COMMENT.sub(" ", grammar))
    found = _RULE.findall(plain)
    rules = {name.rpartition(".")[2]: _SIGN.findall(expansion) for _, name, expansion in found}
    sketch = _Sketch(rules, knows)
    end = sketch.state()
    for public, name, _ in found:
        if public:
            sketch.edges[sketch.rule(name.rpartition(".")[2], 0)].append(("", end))
    accepting, edges = _determined(sketch.edges, end)
    steps, ends = _smallest(edges, accepting)
    unknown = tuple(sorted(sketch.unknown))
    if not steps:
        raise ValueError(
            f"the grammar has no sentence that can be heard; unknown words: {', '.join(unknown[:10]) or '-'}"
        )
    return Graph(*_shared(steps, endings), ends, unknown)


def signs(grammar: str) -> set[str]:
    """Return all that stands in a grammar: its words, and the signs and names between them."""
    return set(_SIGN.findall(_PASSED_OVER.sub(" ", _COMMENT.sub(" ", grammar))))


class _Sketch:
    """A graph with wordless steps, as it comes from reading the rules."""

    def __init__(self, rules: dict[str, list[str]], knows: Callable[[str], bool]) -> None:
        self.edges: Edges = {0: []}
        self.unknown: set[str] = set()
        self._rules = rules
        self._knows = knows
        self._open: list[str] = []

    def state(self) -> int:
        """Add a state."""
        self.edges[len(self.edges)] = []
        return len(self.edges) - 1

    def rule(self, name: str, start: int) -> int:
        """Read a rule from ``start`` on and return the state behind it; one that is not there is a dead end."""
        if name in self._open:
            raise ValueError(f"the grammar's rule <{name}> refers to itself")
        if name == "NULL":
            return start
        if name not in self._rules:
            return self.state()
        self._open.append(name)
        signs = self._rules[name]
        end, position = self._alternatives(signs, 0, start)
        if position != len(signs):
            raise ValueError(f"the brackets of the grammar's rule <{name}> do not match")
        self._open.pop()
        return end

    def _alternatives(self, signs: list[str], position: int, start: int) -> tuple[int, int]:
        """Read up to the closing bracket or the end; return the state behind and the position there."""
        end = self.state()
        while True:
            last, position = self._sequence(signs, position, start)
            self.edges[last].append(("", end))
            if position == len(signs) or signs[position] != "|":
                return end, position
            position += 1

    def _sequence(self, signs: list[str], position: int, start: int) -> tuple[int, int]:
        at = start
        while position < len(signs) and signs[position] not in "|)]":
            before = self.state()
            self.edges[at].append(("", before))
            at, position = self._part(signs, position, before)
            while position < len(signs) and signs[position] in "*+":
                after = self.state()
                self.edges[at] += [("", before), ("", after)]
                if signs[position] == "*":
                    self.edges[before].append(("", after))
                at, position = after, position + 1
        return at, position

    def _part(self, signs: list[str], position: int, start: int) -> tuple[int, int]:
        sign = signs[position]
        if sign in "([":
            end, position = self._alternatives(signs, position + 1, start)
            if position == len(signs) or signs[position] != {"(": ")", "[": "]"}[sign]:
                raise ValueError("the grammar's brackets do not match")
            if sign == "[":
                self.edges[start].append(("", end))
            return end, position + 1
        if sign[0] == "<":
            return self.rule(sign[1:-1].rpartition(".")[2], start), position + 1
        end = self.state()
        if self._knows(sign):
            self.edges[start].append((sign, end))
        else:
            self.unknown.add(sign)
        return end, position + 1


def _determined(edges: Edges, end: int) -> tuple[set[int], dict[int, dict[str, int]]]:
    """Make each word lead to one state only (subset construction); return what accepts, and the steps."""

    @cache
    def reached(state: int) -> frozenset[int]:
        """Return what can be reached without a word and has any, or is the end: the rest makes no difference."""
        found, waiting = {state}, [state]
        while waiting:
            new = {to for word, to in edges[waiting.pop()] if not word} - found
            found |= new
            waiting += new
        return frozenset(one for one in found if one == end or any(word for word, _ in edges[one]))

    first = reached(0)
    numbers, unseen = {first: 0}, [first]
    steps: dict[int, dict[str, int]] = {}
    while unseen:
        states = unseen.pop()
        targets: dict[str, set[int]] = defaultdict(set)
        for state in states:
            for word, to in edges[state]:
                if word:
                    targets[word] |= reached(to)
        out = steps[numbers[states]] = {}
        for word, some in targets.items():
            to_states = frozenset(some)
            if to_states not in numbers:
                numbers[to_states] = len(numbers)
                unseen.append(to_states)
            out[word] = numbers[to_states]
    return {number for states, number in numbers.items() if end in states}, steps


def _smallest(
    steps: dict[int, dict[str, int]], accepting: set[int]
) -> tuple[tuple[tuple[int, int, str], ...], frozenset[int]]:
    """Merge states that the same words lead on from (Moore's algorithm), and drop those that lead nowhere."""
    kinds = {state: int(state in accepting) for state in steps}
    count = 0
    while len(set(kinds.values())) > count:
        count = len(set(kinds.values()))
        signatures = {
            state: (state in accepting, frozenset((word, kinds[to]) for word, to in out.items()))
            for state, out in steps.items()
        }
        numbers = {signature: number for number, signature in enumerate(dict.fromkeys(signatures.values()))}
        kinds = {state: numbers[signatures[state]] for state in steps}
    merged = {(kinds[state], kinds[to], word) for state, out in steps.items() for word, to in out.items()}
    alive = {kinds[state] for state in accepting}
    while grown := {state for state, to, _ in merged if to in alive} - alive:
        alive |= grown
    first = kinds[0]
    swapped = {first: 0, 0: first}  # the first state is number 0
    kept = sorted(
        (swapped.get(state, state), swapped.get(to, to), word) for state, to, word in merged if {state, to} <= alive
    )
    return tuple(kept), frozenset(swapped.get(kinds[state], kinds[state]) for state in accepting)


def _shared(steps: tuple[Step, ...], endings: Callable[[str], Iterable[str]]) -> tuple[tuple[Step, ...], Skips]:
    """Let steps that lead out of the same several states lead out of one more instead, skipped to from these.

    pocketsphinx begins the words of a state as if they followed the first, by name, of all sounds that can be before
    it. So the states that share have that in common, and the sentences sound to it as if nothing was shared.
    """
    first: dict[int, str] = defaultdict(lambda: SILENCE)
    for _, to, word in steps:
        first[to] = min(first[to], *endings(word), SILENCE)
    starts: dict[tuple[str, int, str], set[int]] = defaultdict(set)
    for start, to, word in steps:
        starts[word, to, first[start]].add(start)
    alike: dict[tuple[int, ...], list[tuple[str, int]]] = defaultdict(list)
    for (word, to, _), some in starts.items():
        alike[tuple(sorted(some))].append((word, to))
    kept: list[Step] = []
    skips: list[tuple[int, int]] = []
    state = 1 + max((max(start, to) for start, to, _ in steps), default=0)
    for sharing, ways in alike.items():
        if len(sharing) * len(ways) >= len(ways) + SKIP_COST * len(sharing) + STATE_COST:
            skips += [(start, state) for start in sharing]
            kept += [(state, to, word) for word, to in ways]
            state += 1
        else:
            kept += [(start, to, word) for start in sharing for word, to in ways]
    return tuple(kept), tuple(skips)
