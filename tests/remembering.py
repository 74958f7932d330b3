"""A memory in a store of its own, and an embedder to which all texts mean the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from roomtone.memories import StoreMemory
from roomtone.mind.memory import Fact
from roomtone.mind.phrases import load_language
from roomtone.store import FILE_NAME, Store, open_store

SMALL = load_language("en").small_words


@asynccontextmanager
async def remembering(folder: Path, embed: Any = None, **more: Any) -> AsyncIterator[tuple[StoreMemory, Store]]:
    async with open_store(folder / FILE_NAME) as store:
        yield StoreMemory(store, embed, small_words=SMALL, **more), store


async def told(memory: StoreMemory, *texts: str, **more: Any) -> list[Fact]:
    return [await memory.keep(Fact(text=text, **more)) for text in texts]


def texts(facts: Sequence[Any]) -> list[str]:
    return [getattr(each, "fact", each).text for each in facts]


class Flat:
    """An embedder to which all texts mean the same; ``trouble`` is what it raises instead."""

    name = "flat"

    def __init__(self, trouble: Exception | None = None) -> None:
        self.trouble = trouble

    async def embed(self, texts: Sequence[str]) -> Any:
        if self.trouble is not None:
            raise self.trouble
        return np.full((len(texts), 4), 0.5, np.float32)
