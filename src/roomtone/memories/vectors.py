"""What many facts mean, small enough to be kept in memory: a bit for each dimension of each fact's vector.

Vectors are compared by the signs of their numbers first, which takes 48 bytes of a fact instead of 1,536, and those
that come nearest by their whole vectors then: the two steps of Yamada et al. 2021, "Efficient Passage Retrieval with
Hashing", with plain signs in place of learnt codes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from roomtone.core.errors import EngineError
from roomtone.engines.embed import Embed
from roomtone.store import Store

log = logging.getLogger(__name__)

Vector = npt.NDArray[np.float32]

PAGE = 5000
"""Facts whose signatures are read at a time, so that nobody else waits long for the store."""

BATCH = 8
"""Facts that are embedded at a time while nobody waits for them."""

EMBED_WAIT_S = 0.3
"""Longest that a search waits for what a question means; then it goes by words alone."""

SHARED = 0
"""What stands for everybody in place of one persona."""


def packed(vector: Vector) -> bytes:
    """Return a vector as it is kept: half precision, two bytes a dimension."""
    return vector.astype("<f2").tobytes()


def unpacked(content: bytes) -> Vector:
    """Return a vector that was kept."""
    return np.frombuffer(content, "<f2").astype(np.float32)


def signature(vector: Vector) -> bytes:
    """Return the signs of a vector, a bit a dimension, filled up to whole words of eight bytes."""
    bits = np.packbits(vector > 0)
    return bytes(bits) + b"\0" * (-len(bits) % 8)


class Signatures:
    """The signatures of facts by number, and whose each is. Those of another length than the first are left out."""

    def __init__(self) -> None:
        self._place: dict[int, int] = {}
        self._whose: dict[str, int] = {}
        self._numbers = np.zeros(64, np.int64)
        self._owners = np.zeros(64, np.int32)
        self._bits: npt.NDArray[np.uint64] = np.zeros((64, 0), np.uint64)

    def __len__(self) -> int:
        return len(self._place)

    def put(self, number: int, persona: str | None, content: bytes) -> None:
        """Note the signature of a fact, new or changed."""
        bits = np.frombuffer(content, np.uint64)
        if not self._place:
            self._bits = np.zeros((len(self._numbers), len(bits)), np.uint64)
        if len(bits) != self._bits.shape[1]:
            return
        place = self._place.setdefault(number, len(self._place))
        if place == len(self._numbers):
            self._grow()
        self._numbers[place], self._bits[place] = number, bits
        self._owners[place] = SHARED if persona is None else self._whose.setdefault(persona, len(self._whose) + 1)

    def drop(self, numbers: Iterable[int]) -> None:
        """Leave facts out from here on; the last one takes the place of each."""
        for number in numbers:
            place = self._place.pop(number, None)
            if place is None or place == len(self._place):
                continue
            last = len(self._place)
            self._numbers[place] = self._numbers[last]
            self._owners[place] = self._owners[last]
            self._bits[place] = self._bits[last]
            self._place[int(self._numbers[place])] = place

    def nearest(self, vector: Vector, persona: str | None, most: int) -> list[int]:
        """Return the numbers of facts nearest to a vector by sign, of those a persona may know (None: of all)."""
        wanted = np.frombuffer(signature(vector), np.uint64)
        count = len(self._place)
        if not count or len(wanted) != self._bits.shape[1]:
            return []
        apart = np.bitwise_count(self._bits[:count] ^ wanted).sum(axis=1, dtype=np.int32)
        places = np.arange(count)
        if persona is not None:
            owners = self._owners[:count]
            places = np.flatnonzero((owners == SHARED) | (owners == self._whose.get(persona, -1)))
        if len(places) > most:
            places = places[np.argpartition(apart[places], most)[:most]]
        return [int(number) for number in self._numbers[places]]

    def _grow(self) -> None:
        self._numbers = np.concatenate([self._numbers, np.zeros_like(self._numbers)])
        self._owners = np.concatenate([self._owners, np.zeros_like(self._owners)])
        self._bits = np.concatenate([self._bits, np.zeros_like(self._bits)])


class Vectors:
    """The vectors of an embedder in the store, and their signatures in memory.

    Nothing is found by meaning before the first ``step``. Vectors of other embedders are made anew by it.
    """

    def __init__(self, store: Store, embed: Embed) -> None:
        self._store = store
        self._embed = embed
        self._signatures = Signatures()
        self._lacking: dict[int, None] = {}
        self._read = False

    @property
    def name(self) -> str:
        """Which embedder's they are."""
        return self._embed.name

    async def understand(self, text: str) -> Vector | None:
        """Return the vector of a question; None where it cannot be had in time."""
        try:
            async with asyncio.timeout(EMBED_WAIT_S):
                vector: Vector = (await self._embed.embed([text]))[0]
                return vector
        except TimeoutError:
            log.info("what a question means was not known in %s s: it went by its words", EMBED_WAIT_S)
        except EngineError as error:
            log.warning("what a question means is not known: %s", error.message)
        return None

    def nearest(self, vector: Vector, persona: str | None, most: int) -> list[int]:
        """Return the numbers of the facts nearest by sign, of those a persona may know (None: of all)."""
        return self._signatures.nearest(vector, persona, most)

    def lacks(self, number: int) -> None:
        """Note that a fact is new, or has changed."""
        self._lacking[number] = None

    def drop(self, numbers: Iterable[int]) -> None:
        """Leave out facts that are forgotten."""
        gone = list(numbers)
        self._signatures.drop(gone)
        for number in gone:
            self._lacking.pop(number, None)

    async def step(self) -> bool:
        """Read the signatures there are, then make a few of the vectors that lack; return whether more lack.

        Raises EngineError where the embedder fails, StoreError.
        """
        if not self._read:
            await self._read_all()
            self._read = True
        if self._lacking:
            await self._make(list(self._lacking)[:BATCH])
        return bool(self._lacking)

    async def _read_all(self) -> None:
        query = (
            "SELECT memories.number AS number, persona, signature FROM memories LEFT JOIN memory_vectors "
            "ON memory_vectors.number = memories.number AND embedder = ? WHERE memories.number > ? "
            "ORDER BY memories.number LIMIT ?"
        )
        after = 0
        while rows := await self._store.read(query, self.name, after, PAGE):
            for row in rows:
                if row["signature"] is None:
                    self.lacks(row["number"])
                else:
                    self._signatures.put(row["number"], row["persona"], row["signature"])
            after = rows[-1]["number"]

    async def _make(self, numbers: list[int]) -> None:
        where = "number IN (SELECT value FROM json_each(?))"
        rows = await self._store.read(
            f"SELECT number, text, persona FROM memories WHERE {where}", json.dumps(numbers)
        )
        made = await self._embed.embed([row["text"] for row in rows]) if rows else np.zeros((0, 0), np.float32)
        # A fact may have been forgotten or changed meanwhile: it has no vector then.
        insert = "INSERT OR REPLACE INTO memory_vectors SELECT ?,?,?,? FROM memories WHERE number = ? AND text = ?"
        signs = [signature(vector) for vector in made]
        await self._store.write(
            *(
                (insert, (row["number"], self.name, sign, packed(vector), row["number"], row["text"]))
                for row, sign, vector in zip(rows, signs, made, strict=True)
            )
        )
        for row, sign in zip(rows, signs, strict=True):
            if row["number"] in self._lacking:
                self._signatures.put(row["number"], row["persona"], sign)
        for number in numbers:
            self._lacking.pop(number, None)
