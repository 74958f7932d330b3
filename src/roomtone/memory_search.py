"""Searching what is remembered: by words, and by meaning where an embedder tells it.

Each telling word of a question is looked for by itself, in at most so many facts and the newest of them: a word that
half of all facts hold costs no more than a rare one. Scores are those of ``mind/relevance.py``.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations

from roomtone.clock import utc_now
from roomtone.flow import task_group
from roomtone.memory_vectors import Vector, Vectors, unpacked
from roomtone.mind import relevance
from roomtone.mind.memory import Fact, Recalled
from roomtone.store import Store

LONGEST_QUESTION = 12
"""Words of a question that are looked for."""

FACTS_A_WORD = 400
"""So many facts are looked at that hold a word, the newest; where more hold it, those too that hold two such."""

CROWDED = 4
"""Words that more facts hold than are looked at: so many, the rarest, are looked for in pairs."""

CLOSEST = 100
"""So many facts, those that hold most of a question and those nearest to it by sign, are read and compared whole."""

FIELDS = ("id", "level", "text", "persona", "at", "expires", "trace")
COLUMNS = ", ".join(f"memories.{name}" for name in FIELDS)
MAY_KNOW = "(:persona IS NULL OR persona IS NULL OR persona = :persona)"
VALID = "(expires IS NULL OR expires > :now)"


class Search:
    """Searches facts in the store; ``small_words`` say nothing."""

    def __init__(self, store: Store, vectors: Vectors | None, small_words: frozenset[str]) -> None:
        self._store = store
        self._vectors = vectors
        self._small = small_words

    async def found(self, text: str, persona: str | None, least: float) -> list[Recalled]:
        """Return the facts of at least this relevance, the highest score first."""
        words = relevance.telling_words(text, self._small, LONGEST_QUESTION)
        vector: Vector | None = None
        if self._vectors is not None and text.strip():
            async with task_group() as group:
                understanding = group.create_task(self._vectors.understand(text), name="meaning of a question")
                hits = await self._holding(words, persona)
            vector = understanding.result()
        else:
            hits = await self._holding(words, persona)
        near = self._vectors.nearest(vector, persona, CLOSEST) if self._vectors and vector is not None else []
        numbers = {*hits.best(), *near}
        found = await self._rows(list(numbers), hits.held, persona) if numbers else []
        return _ranked(found, hits.weights(), vector, least)

    async def _holding(self, words: Sequence[str], persona: str | None) -> _Hits:
        """Find facts that hold words of a question: the newest of each word, and of each two that many hold."""
        [row] = await self._store.read("SELECT coalesce(max(number), 0) AS facts FROM memories")
        hits = _Hits(tuple(words), int(row["facts"]))
        if not words:
            return hits
        for number, (word,) in await self._look([(word,) for word in words], persona):
            hits.count(number, word)
        pairs = list(combinations(sorted(filter(hits.crowded, words), key=hits.frequency)[:CROWDED], 2))
        for number, pair in await self._look(pairs, persona) if pairs else ():
            hits.held.setdefault(number, set()).update(pair)
        return hits

    async def _look(self, sets: Sequence[tuple[str, ...]], persona: str | None) -> list[tuple[int, tuple[str, ...]]]:
        """Return the numbers of the newest facts that hold all words of a set, each with the set."""
        whose = f' AND whose : ("p" OR "p{persona.encode().hex().upper()}")' if persona is not None else ""
        one = (
            "SELECT * FROM (SELECT {place} AS place, rowid AS number FROM memory_index WHERE memory_index MATCH ? "
            "ORDER BY rowid DESC LIMIT {most})"
        )
        query = " UNION ALL ".join(one.format(place=place, most=FACTS_A_WORD) for place in range(len(sets)))
        asked = [" AND ".join(f'text : "{word}"' for word in each) + whose for each in sets]
        return [(row["number"], sets[row["place"]]) for row in await self._store.read(query, *asked)]

    async def _rows(self, numbers: list[int], held: dict[int, set[str]], persona: str | None) -> list[_Found]:
        """Read facts by number: those that a persona may know, and that have not expired."""
        query = (
            f"SELECT memories.number AS number, {COLUMNS}, vector FROM memories "
            "LEFT JOIN memory_vectors ON memory_vectors.number = memories.number AND embedder = :embedder "
            f"WHERE memories.number IN (SELECT value FROM json_each(:numbers)) AND {MAY_KNOW} AND {VALID}"
        )
        key = {"numbers": json.dumps(numbers), "persona": persona, "now": iso(utc_now())}
        rows = await self._store.read(query, {**key, "embedder": self._vectors.name if self._vectors else None})
        return [_Found(fact_of(row), held.get(row["number"], set()), row["vector"]) for row in rows]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a search found of one fact: its row, the words of the question that it holds, and its vector."""

    fact: Fact
    held: set[str]
    vector: bytes | None


@dataclass(slots=True)
class _Hits:
    """Which facts hold which words of a question; ``facts`` is about how many there are."""

    words: tuple[str, ...]
    facts: int
    held: dict[int, set[str]] = field(default_factory=dict)
    _found: Counter[str] = field(default_factory=Counter)
    _oldest: dict[str, int] = field(default_factory=dict)

    def count(self, number: int, word: str) -> None:
        """Note that a fact holds a word."""
        self.held.setdefault(number, set()).add(word)
        self._found[word] += 1
        self._oldest[word] = min(number, self._oldest.get(word, number))

    def crowded(self, word: str) -> bool:
        """Whether more facts may hold a word than were looked at."""
        return self._found[word] >= FACTS_A_WORD

    def frequency(self, word: str) -> float:
        """Return how many facts hold a word: guessed from how close those stand that were looked at."""
        if not self.crowded(word):
            return self._found[word]
        return self.facts * self._found[word] / (self.facts - self._oldest[word] + 1)

    def weights(self) -> dict[str, float]:
        """Return what each word of the question weighs."""
        return {word: relevance.rarity(self.frequency(word), self.facts) for word in self.words}

    def best(self) -> list[int]:
        """Return the numbers of the facts that hold most, of those that hold alike much the newest."""
        weights = self.weights()
        return heapq.nlargest(
            CLOSEST, self.held, key=lambda number: (sum(weights[word] for word in self.held[number]), number)
        )


def _ranked(found: list[_Found], weights: dict[str, float], vector: Vector | None, least: float) -> list[Recalled]:
    now = utc_now()
    ranked = []
    for each in found:
        length = len(relevance.WORD.findall(each.fact.text))
        words = relevance.in_words((weights[word] for word in each.held), weights.values(), length)
        meaning = 0.0
        if vector is not None and each.vector is not None:
            meaning = relevance.in_meaning(_cosine(unpacked(each.vector), vector))
        fits = relevance.together(words, meaning)
        if fits >= least:
            ranked.append(Recalled(each.fact, relevance.with_time(fits, each.fact.at, now)))
    return sorted(ranked, key=lambda each: (each.score, each.fact.at, each.fact.id), reverse=True)


def _cosine(one: Vector, other: Vector) -> float:
    return float(one @ other) if one.shape == other.shape else 0.0


def fact_of(row: sqlite3.Row) -> Fact:
    """Return the fact of a row of memories."""
    return Fact.model_validate({name: row[name] for name in FIELDS})


def iso(at: datetime | None) -> str | None:
    """Return a moment as the store writes it."""
    return None if at is None else at.astimezone(UTC).isoformat()
