"""What Roomtone adds to a language model: the overhead of a turn that a model answers, and what it costs to remember.

The model is scripted, on loopback: a real HTTP server that streams real server-sent events at once.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import numpy as np

from roomtone import engines
from roomtone.bench import Figure, p
from roomtone.bench.memory import RandomVectors, fill, sentence
from roomtone.core.sound import Audio
from roomtone.flow import share_the_interpreter
from roomtone.memories import StoreMemory
from roomtone.mind.sentences import Skills
from roomtone.rehearsal import rehearsing
from roomtone.scripted_provider import NAME, Reply, provider
from roomtone.settings import Settings
from roomtone.store import FILE_NAME, open_store

QUESTION = "so how does it come about that the sea looks so blue on some of the days"
ANSWER = "It mirrors the sky, and water itself takes in red light. On a grey day neither helps."

FACTS, ROUNDS = 100_000, 80


async def overhead(people: Sequence[Audio]) -> list[Figure]:
    """Let a scripted model answer each of ``people``'s sounds; nothing where the openai package is not there."""
    file = engines.load("llm", "openai")
    if file.missing(file.Settings.model_validate({"model": NAME, "base_url": "http://127.0.0.1:1/v1"})) is not None:
        return []
    found: list[float] = []
    with tempfile.TemporaryDirectory() as folder, provider([Reply(ANSWER)]) as server:
        wav = ("wav", engines.load("audio", "wav").Settings())
        settings = _settings(server.url, 20 * len(people))
        async with rehearsing(settings, Path(folder), wav) as rehearsal:
            for sound in people:
                rehearsal.device.visit(sound)
                turns = await rehearsal.at_rest()
                found += [turn.latency_ms.overhead for turn in turns if turn.latency_ms.overhead is not None]
    return [
        Figure("llm_overhead_ms_p50", p(50, found), "ms", "<= 3", len(found)),
        Figure("llm_overhead_ms_p95", p(95, found), "ms", "<= 6", len(found)),
    ]


def _settings(url: str, count: int) -> Settings:
    return Settings.model_validate(
        {
            "stt": {"engine": "script", "texts": [QUESTION] * count, "partials": False},
            "tts": {"engine": "tone", "word_s": 0.1},
            "listen": {"mode": "open", "follow_up_s": 1},
            "llm": {"providers": {"house": {"engine": "openai", "base_url": url, "model": NAME, "api_key": "none"}}},
        }
    )


async def beside() -> list[Figure]:
    """Time finding the intent of texts, recalling what belongs to them, and both side by side, each text once.

    What is paid for beside the longer of the two is given in percent of the shorter one: 0 where both together take
    as long as the longer, 100 where they take as long as one after the other.
    """
    share_the_interpreter()
    random = np.random.default_rng(2)
    skills = Skills.load()
    with tempfile.TemporaryDirectory() as folder:
        async with open_store(Path(folder) / FILE_NAME) as store:
            await fill(store, RandomVectors(random), random, FACTS)
            work = _Work(skills, StoreMemory(store))
            texts = [f"tell me {sentence(random, 6, 12)}" for _ in range(4 * ROUNDS)]
            for text in texts[:ROUNDS]:  # whatever is slow the first time
                await work.both(text)
            took = [
                [await _seconds(each, text) for text in texts[(place + 1) * ROUNDS : (place + 2) * ROUNDS]]
                for place, each in enumerate((work.recall, work.recognise, work.both))
            ]
    recall, recognise, both = (float(np.median(each)) for each in took)
    paid = 100 * max(0.0, both - max(recall, recognise)) / min(recall, recognise)
    return [
        Figure("recall_ms_p50", p(50, [1000 * each for each in took[0]]), "ms", "", ROUNDS),
        Figure("intent_ms_p50", p(50, [1000 * each for each in took[1]]), "ms", "", ROUNDS),
        Figure("intent_and_recall_ms_p50", p(50, [1000 * each for each in took[2]]), "ms", "", ROUNDS),
        Figure("paid_beside_percent", round(paid, 1), "%", "<= 50", ROUNDS),
    ]


class _Work:
    """What a mind does with a text before it answers."""

    def __init__(self, skills: Skills, memory: StoreMemory) -> None:
        self._skills = skills
        self._memory = memory

    async def recall(self, text: str) -> None:
        await self._memory.recall(text, "companion")

    async def recognise(self, text: str) -> None:
        self._skills.recognise(text)

    async def both(self, text: str) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.recall(text))
            await asyncio.sleep(0)
            await self.recognise(text)


async def _seconds(work: Callable[[str], Awaitable[None]], text: str) -> float:
    began = time.perf_counter()
    await work(text)
    return time.perf_counter() - began
