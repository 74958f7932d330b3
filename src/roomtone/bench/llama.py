"""A language model on this machine: how much of a prompt it reads again, and how soon its first words are there.

Measured with a model of a folder, on the prompts that the daemon makes for the personas that come with Roomtone:
each is asked something, then each is asked something more. Nothing is measured where there is no model.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from roomtone import engines
from roomtone.bench import Figure, p
from roomtone.core.dialog import Message, Role
from roomtone.core.errors import EngineUnavailable
from roomtone.core.persona import Persona
from roomtone.engines.llm import Options, Text, Usage
from roomtone.engines.llm.llama_cpp import LlamaCpp, Settings
from roomtone.flow import close
from roomtone.mind.context import Budget, Past, build
from roomtone.mind.phrases import Phrases
from roomtone.mind.prompt import Surroundings
from roomtone.personas import Library
from roomtone.shipped import shipped

PERSONAS = ("companion", "chef")
QUESTIONS = ("What can I make of eggs and flour?", "And without flour?", "How long does that take?")
BEGAN = datetime(2026, 11, 21, 18, 0, tzinfo=UTC)
MOST_TOKENS = 30


async def measure(models: Path) -> list[Figure]:
    """Talk with two personas by turns; say on stderr why nothing is measured."""
    settings = Settings(models_dir=models)
    try:
        opening = engines.open_engine("llm", "llama_cpp", settings)
    except EngineUnavailable as error:
        sys.stderr.write(f"roomtone: not measured: {error.message}\n")
        return []
    async with opening as llm:
        await llm.check()
        talks = [Talk(llm, persona) for persona in PERSONAS]
        for question in QUESTIONS:
            for talk in talks:
                await talk.ask(question)
    shares = [round(100 * talk.read(turn) / talk.read(0), 1) for talk in talks for turn in range(1, len(QUESTIONS))]
    again = [talk.read_again(turn) for talk in talks for turn in range(1, len(QUESTIONS))]
    waits = [wait for talk in talks for wait in talk.first_ms[1:]]
    return [
        Figure("prefix_reuse_percent", max(shares), "%", "<= 5", len(shares)),
        Figure("prefix_tokens_read_again", max(again), "tokens", "<= 5", len(again)),
        Figure("llama_first_prompt_tokens", p(50, [talk.read(0) for talk in talks]), "tokens", "", len(talks)),
        Figure("llama_first_piece_ms_p50", p(50, waits), "ms", "", len(waits)),
        Figure("llama_first_piece_of_first_turn_ms_p50", p(50, [talk.first_ms[0] for talk in talks]), "ms", "", 2),
    ]


class Talk:
    """A conversation with one persona: what each turn took, and how long its first piece was waited for."""

    def __init__(self, llm: LlamaCpp, persona: str) -> None:
        self.taken: list[Usage] = []
        self.first_ms: list[float] = []
        self._llm = llm
        self._persona: Persona = Library([shipped("personas")]).load(persona)
        self._phrases = Phrases.load()
        self._said: list[Message] = []

    def read(self, turn: int) -> int:
        """Return how many tokens of a turn's prompt had to be read."""
        return self.taken[turn].input_tokens - self.taken[turn].cached_tokens

    def read_again(self, turn: int) -> int:
        """Return how many of these were in the prompt or the reply before already."""
        before, this = self.taken[turn - 1], self.taken[turn]
        return self.read(turn) - (this.input_tokens - before.input_tokens - before.output_tokens)

    async def ask(self, question: str) -> None:
        """Ask, and keep what was said as the daemon keeps it."""
        turn = len(self.taken)
        where = Surroundings("kitchen", BEGAN + timedelta(minutes=turn))
        budget = Budget(context=self._llm.context)
        prompt = await build(
            self._persona, self._phrases, where, Past(self._said), question, budget=budget, count=self._llm.count
        )
        answer = await self._answer(prompt.messages)
        data = {"trace": str(turn), "told": prompt.told.model_dump()}
        for role, text in ((Role.PERSON, question), (Role.ROOMTONE, answer)):
            self._said.append(Message(session="s", role=role, text=text, persona=self._persona.id, data=data))

    async def _answer(self, messages: Sequence[Message]) -> str:
        clock, options = asyncio.get_running_loop().time, Options(MOST_TOKENS, 0.0, persona=self._persona.id)
        began, texts = clock(), []
        pieces = self._llm.reply(messages, options)
        try:
            async for piece in pieces:
                if isinstance(piece, Text):
                    texts.append(piece.text)
                    if len(texts) == 1:
                        self.first_ms.append(1000 * (clock() - began))
                elif isinstance(piece, Usage):
                    self.taken.append(piece)
        finally:
            await close(pieces)
        return "".join(texts).strip()
