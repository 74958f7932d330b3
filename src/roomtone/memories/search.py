"""Searching what is remembered: by words, and by meaning where an embedder tells it.

Each telling word of a question is looked for by itself, in at most so many facts and the newest of them: a word that
half of all facts hold costs no more than a rare one. Scores are those of ``mind/relevance.py``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from roomtone.clock import utc_now
from roomtone.flow import task_group
from roomtone.memories.vectors import Vector, Vectors, unpacked
from roomtone.mind import relevance
from roomtone.mind.memory import Fact, Recalled
from roomtone.store import Store, iso

Numbers = npt.NDArray[np.int64]

LONGEST_QUESTION = 12
"""Words of a question that are looked for."""

FACTS_A_WORD = 400
"""So many facts are looked at that hold a word, the newest; where more hold it, those too that hold two such."""

CROWDED = 3
"""Words that more facts hold than are looked at: so many, the rarest, are looked for in pairs."""

CLOSEST = 64
"""So many facts, those that hold most of a question and those nearest to it by sign, are read and compared whole. Of
100,000 random vectors of 384 dimensions the one at a cosine of 0.44 was among the nearest 64 by sign in 100 of 100
tries, at 0.35 in 92."""

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
        """Return the facts that hold at least so much of a text, or come as near to it, the highest score first."""
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
        numbers = list({*hits.best(), *near})
        found = await self._rows(numbers, hits.held(numbers), persona) if numbers else []
        return _ranked(found, hits.weights, vector, least)

    async def _holding(self, words: Sequence[str], persona: str | None) -> _Hits:
        """Find facts that hold words of a question: the newest of each word, and of each two that many hold."""
        if not words:
            return _Hits({}, {})
        facts, *found = await self._look([(word,) for word in words], persona)
        holding = dict(zip(words, found, strict=True))
        frequency = {word: _frequency(numbers, int(facts[0])) for word, numbers in holding.items()}
        crowded = sorted((word for word in words if len(holding[word]) >= FACTS_A_WORD), key=frequency.__getitem__)
        pairs = list(combinations(crowded[:CROWDED], 2))
        both = (await self._look(pairs, persona))[1:] if pairs else []
        for pair, numbers in zip(pairs, both, strict=True):
            for word in pair:
                holding[word] = np.union1d(holding[word], numbers)
        return _Hits(holding, {word: relevance.rarity(frequency[word], int(facts[0])) for word in words})

    async def _look(self, sets: Sequence[tuple[str, ...]], persona: str | None) -> list[Numbers]:
        """Return about how many facts there are, and of each set of words the newest facts that hold all of them."""
        whose = f' AND whose : ("p" OR "p{persona.encode().hex().upper()}")' if persona is not None else ""
        one = (
            "SELECT {place}, group_concat(rowid) FROM (SELECT rowid FROM memory_index WHERE memory_index MATCH ? "
            "ORDER BY rowid DESC LIMIT {most})"
        )
        queries = [one.format(place=place, most=FACTS_A_WORD) for place in range(1, len(sets) + 1)]
        known = "SELECT 0 AS place, coalesce(max(number), 0) AS numbers FROM memories"
        asked = [" AND ".join(f'text : "{word}"' for word in each) + whose for each in sets]
        whole = " UNION ALL ".join([known, *queries]) + " ORDER BY place"
        # One row, so that SQLite works it out in one go: between two it would wait for the interpreter, which whoever
        # looks for the intent meanwhile keeps busy.
        one_row = f"SELECT group_concat(coalesce(numbers, ''), ';') AS numbers FROM ({whole})"
        [row] = await self._store.read(one_row, *asked)
        return [np.array(each.split(",") if each else [], np.int64) for each in str(row["numbers"]).split(";")]

    async def _rows(self, numbers: list[int], held: dict[int, list[str]], persona: str | None) -> list[_Found]:
        """Read facts by number: those that a persona may know, and that have not expired."""
        query = (
            f"SELECT memories.number AS number, {COLUMNS}, vector FROM memories "
            "LEFT JOIN memory_vectors ON memory_vectors.number = memories.number AND embedder = :embedder "
            f"WHERE memories.number IN (SELECT value FROM json_each(:numbers)) AND {MAY_KNOW} AND {VALID}"
        )
        key = {"numbers": json.dumps(numbers), "persona": persona, "now": iso(utc_now())}
        rows = await self._store.read(query, {**key, "embedder": self._vectors.name if self._vectors else None})
        return [_Found(fact_of(row), held[row["number"]], row["vector"]) for row in rows]


@dataclass(frozen=True, slots=True)
class _Found:
    """What a search found of one fact: its row, the words of the question that it holds, and its vector."""

    fact: Fact
    held: list[str]
    vector: bytes | None


@dataclass(frozen=True, slots=True)
class _Hits:
    """Which facts hold each word of a question, by number, and what each word weighs."""

    holding: dict[str, Numbers]
    weights: dict[str, float]

    def best(self) -> list[int]:
        """Return the numbers of the facts that hold most, of those that hold alike much the newest."""
        if not self.holding:
            return []
        numbers, which = np.unique(np.concatenate([*self.holding.values()]), return_inverse=True)
        weights = np.concatenate([np.full(len(held), self.weights[word]) for word, held in self.holding.items()])
        held = np.bincount(which, weights, len(numbers))
        return [int(number) for number in numbers[np.lexsort((numbers, held))[-CLOSEST:]]]

    def held(self, numbers: list[int]) -> dict[int, list[str]]:
        """Return which words of the question each of some facts holds."""
        found: dict[int, list[str]] = {number: [] for number in numbers}
        for word, holding in self.holding.items():
            for number in np.intersect1d(holding, numbers):
                found[int(number)].append(word)
        return found


def _frequency(numbers: Numbers, facts: int) -> float:
    """Return how many facts hold a word; where not all were looked at, from how close those stand that were."""
    if len(numbers) < FACTS_A_WORD:
        return len(numbers)
    return facts * len(numbers) / max(facts - int(numbers.min()) + 1, 1)


def _ranked(found: list[_Found], weights: dict[str, float], vector: Vector | None, least: float) -> list[Recalled]:
    now = utc_now()
    ranked = []
    for each in found:
        words = relevance.in_words((weights[word] for word in each.held), weights.values())
        meaning = 0.0
        if vector is not None and each.vector is not None:
            meaning = relevance.in_meaning(_cosine(unpacked(each.vector), vector))
        if relevance.together(words, meaning) >= least:
            brief = words * relevance.brevity(len(relevance.WORD.findall(each.fact.text)))
            fits = relevance.together(brief, meaning)
            ranked.append(Recalled(each.fact, relevance.with_time(fits, each.fact.at, now)))
    return sorted(ranked, key=lambda each: (each.score, each.fact.at, each.fact.id), reverse=True)


def _cosine(one: Vector, other: Vector) -> float:
    return float(one @ other) if one.shape == other.shape else 0.0


def fact_of(row: sqlite3.Row) -> Fact:
    """Return the fact of a row of memories."""
    return Fact.model_validate({name: row[name] for name in FIELDS})
