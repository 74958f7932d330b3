"""What a dying model costs whoever listens: the time until another goes on, and whether the answer comes whole.

Two providers on loopback speak real server-sent events; the first breaks off, the second goes on as models do: with
the very next word, with the sentence, or with the whole answer again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing
from itertools import cycle, repeat

from roomtone import engines
from roomtone.bench import Figure, p
from roomtone.core.dialog import Message, Role
from roomtone.engines.llm import Llm, LlmError, Options, Text
from roomtone.flow import close
from roomtone.llm_router import Router
from roomtone.scripted_provider import NAME, Plan, Reply, Request, provider

DIES_AFTER, ROUNDS, DEATHS = 20, 30, 100

FIRST_PIECE_S, DELTA_S = 0.1, 0.02
"""What the second provider takes for its own first piece, as one in the house may, and both for each word."""

SENTENCE = 11
"""Words; of the whole answer every word is another."""

ENDS = ("da", "ge", "hi", "lo", "mu", "ny", "po", "ra", "so", "ta")
WORDS = [letter + end for letter in "abcdefghijk" for end in ENDS]
ANSWER = " ".join(
    " ".join(WORDS[start : start + SENTENCE]).capitalize() + "." for start in range(0, len(WORDS), SENTENCE)
)

GO_ON = "Go on after {last}."
QUESTION = [Message(session="bench", role=Role.PERSON, text="Tell me all you know.")]


async def measure() -> list[Figure]:
    """Let the first provider die, again and again; nothing where the openai package is not installed."""
    file = engines.load("llm", "openai")
    if file.missing(file.Settings.model_validate({"model": NAME, "base_url": "http://127.0.0.1:1/v1"})) is not None:
        return []
    log = logging.getLogger("roomtone.llm_router.line")
    log.disabled = True  # these failures are meant
    try:
        lost, whole = await _lost(), await _whole()
    finally:
        log.disabled = False
    return [
        Figure("failover_ms_p50", p(50, lost), "ms", "", len(lost)),
        Figure("failover_ms_p95", p(95, lost), "ms", "<= 150", len(lost)),
        Figure("deaths_answered", float(sum(whole)), "answers", f">= {DEATHS}", len(whole)),
    ]


async def _opened(stack: AsyncExitStack, plan: Plan) -> Llm:
    server = stack.enter_context(provider(plan))
    settings = engines.load("llm", "openai").Settings.model_validate({"model": NAME, "base_url": server.url})
    llm: Llm = await stack.enter_async_context(engines.open_engine("llm", "openai", settings))
    return llm


async def _lost() -> list[float]:
    """Return the milliseconds from the last word of the one to the first of the other, less its own first piece."""
    dying = [Reply(ANSWER, dies_after_words=DIES_AFTER, delta_s=DELTA_S)]
    async with AsyncExitStack() as stack:
        first, second = await _opened(stack, dying), await _opened(stack, _goes_on(repeat(0), FIRST_PIECE_S, DELTA_S))
        own = [await _first_piece_s(second) for _ in range(ROUNDS)]
        usual = sorted(own)[len(own) // 2]
        return [(await _gap_s(first, second) - usual) * 1000 for _ in range(ROUNDS)]


async def _first_piece_s(llm: Llm) -> float:
    began = time.perf_counter()
    async with aclosing(_texts(llm)) as texts:
        async for _ in texts:
            break
    return time.perf_counter() - began


async def _gap_s(first: Llm, second: Llm) -> float:
    last = 0.0
    async with aclosing(_texts(Router([("first", first), ("second", second)], GO_ON))) as texts:
        async for text in texts:
            if text.by == "second":
                break
            last = time.perf_counter()
    return time.perf_counter() - last


async def _texts(llm: Llm) -> AsyncGenerator[Text, None]:
    pieces = llm.reply(QUESTION, Options())
    try:
        async for piece in pieces:
            if isinstance(piece, Text):
                yield piece
    finally:
        await close(pieces)


async def _whole() -> list[bool]:
    """Let the first provider die after each word; say of each answer whether it is whole, no word of it twice."""
    dying = [Reply(ANSWER, dies_after_words=place) for place in range(1, DEATHS + 1)]
    async with AsyncExitStack() as stack:
        first = await _opened(stack, dying)
        second = await _opened(stack, _goes_on(cycle((0, SENTENCE, len(WORDS)))))
        return [await _is_whole(first, second) for _ in dying]


async def _is_whole(first: Llm, second: Llm) -> bool:
    router = Router([("first", first), ("second", second)], GO_ON)
    try:
        told = [text.text async for text in _texts(router)]
    except LlmError:
        return False
    return "".join(told).split() == ANSWER.split()


def _goes_on(again: Iterator[int], first_piece_s: float = 0.0, delta_s: float = 0.0) -> Callable[[Request], Reply]:
    """Plan a provider that goes on with what it is told was said, ``again`` so many words before it broke off."""
    words = ANSWER.split()

    def plan(request: Request) -> Reply:
        begun = [message["content"] for message in request.body["messages"] if message["role"] == "assistant"]
        known = len(begun[-1].split()) if begun else 0
        text = " ".join(words[max(0, known - next(again)) :])
        return Reply(text, first_piece_s=first_piece_s, delta_s=delta_s)

    return plan
