"""How long it takes to find what belongs to a question among 100,000 facts, by words and by meaning.

Facts are made of words as often as words of a language are (Zipf's law), so that some are in most of them, some in
one alone; questions are made of the same. Vectors are random ones of the usual size: what an embedder takes for a
question is not measured here, what is done with its vector is.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from roomtone.bench import Figure, p
from roomtone.memories import StoreMemory, keeping
from roomtone.memories.vectors import packed, signature
from roomtone.mind.memory import Fact
from roomtone.store import FILE_NAME, Store, open_store

FACTS = 100_000
QUESTIONS = 200
VOCABULARY = 20_000
DIMENSIONS = 384
PERSONAS = (None, "companion", "chef", "storyteller")
BATCH = 5000


class RandomVectors:
    """An embedder whose vectors mean nothing."""

    name = "random"

    def __init__(self, random: np.random.Generator) -> None:
        self._random = random

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one random, normalised row a text."""
        drawn = self._random.normal(size=(len(texts), DIMENSIONS)).astype(np.float32)
        normalised: npt.NDArray[np.float32] = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
        return normalised


async def measure() -> list[Figure]:
    """Fill a store, then ask: by words alone, and by words and meaning."""
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(Path(folder) / FILE_NAME) as store:
            embed = RandomVectors(random)
            await fill(store, embed, random)
            words = await _asked(StoreMemory(store), random)
            both = StoreMemory(store, embed)
            await both.tidy()
            meanings = await _asked(both, random)
    return [
        Figure("memory_search_ms_p50", p(50, words), "ms", "", len(words)),
        Figure("memory_search_ms_p95", p(95, words), "ms", "<= 30", len(words)),
        Figure("memory_meaning_ms_p50", p(50, meanings), "ms", "", len(meanings)),
        Figure("memory_meaning_ms_p95", p(95, meanings), "ms", "<= 30", len(meanings)),
    ]


async def fill(store: Store, embed: RandomVectors, random: np.random.Generator, count: int = FACTS) -> None:
    """Write facts as they are kept, but many in one commit."""
    began = datetime(2026, 1, 1, tzinfo=UTC)
    for start in range(0, count, BATCH):
        texts = [sentence(random, 6, 15) for _ in range(BATCH)]
        facts = [
            Fact(text=text, persona=PERSONAS[place % len(PERSONAS)], at=began + timedelta(minutes=start + place))
            for place, text in enumerate(texts)
        ]
        await store.write(*(statement for fact in facts for statement in keeping(fact)))
        vectors = await embed.embed(texts)
        insert = "INSERT INTO memory_vectors SELECT number, ?, ?, ? FROM memories WHERE id = ?"
        await store.write(
            *(
                (insert, (embed.name, signature(vector), packed(vector), fact.id))
                for fact, vector in zip(facts, vectors, strict=True)
            )
        )


def sentence(random: np.random.Generator, fewest: int, most: int) -> str:
    """Draw words, each with its chance by rank; the first ones are in most sentences."""
    ranks = np.minimum(random.zipf(1.2, random.integers(fewest, most + 1)), VOCABULARY)
    return " ".join(f"w{rank}" for rank in ranks)


async def _asked(memory: StoreMemory, random: np.random.Generator) -> list[float]:
    took = []
    for _ in range(QUESTIONS):
        question = sentence(random, 3, 10)
        began = time.perf_counter()
        await memory.recall(question, "companion")
        took.append((time.perf_counter() - began) * 1000)
    return took
