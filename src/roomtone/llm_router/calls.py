"""One reply as it comes from one model after another, each call of a model, and what a provider may take."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from roomtone.core.dialog import Message, Tokens
from roomtone.core.errors import EngineError, EngineTimeout
from roomtone.engines.llm import LlmError, Options, ToolCall, Trouble, Usage
from roomtone.llm_router.models import UNKNOWN, Model
from roomtone.outbound.accounts import NOTHING, OK, Call
from roomtone.settings import Provider

MINUTE_S = 60.0

BYTES_PER_TOKEN = 4
"""Of UTF-8, where a provider does not tell what it took: English is about four letters a token (OpenAI's tokenizer
page), and a letter of most other scripts, near a token each, is two or three bytes."""

LETTERS_PER_TOKEN = 8
"""More than that of any language's text there are not in ``max_tokens``: who sends more does not stop by itself."""

MOST_TOKENS = 10**9
"""A provider that says it took more for one call, or less than none, is not believed."""

SLACK = 200
"""Letters beyond that, so that a very short reply is never cut for one long word."""


@dataclass(slots=True)
class Terms:
    """What a provider may take, what is known of its model, and since when it was asked how often.

    ``turnstile`` is held by who is being answered, where the model answers one at a time.
    """

    provider: Provider
    model: Model = UNKNOWN
    barred_until: float = float("-inf")
    rests: bool = False
    turnstile: asyncio.Lock = field(default_factory=asyncio.Lock)
    _asked: deque[float] = field(default_factory=deque)

    @property
    def has_daily_limit(self) -> bool:
        """Whether what it takes in a day is bounded."""
        return self.provider.tokens_per_day is not None or self.provider.dollars_per_day is not None

    def asked(self, now: float) -> None:
        """Count a request at a moment (loop time)."""
        self._asked.append(now)

    def wait_s(self, now: float) -> float:
        """Return how long it must not be asked yet, by its own word or by its requests of the last minute."""
        while self._asked and self._asked[0] <= now - MINUTE_S:
            self._asked.popleft()
        most = self.provider.per_minute
        full = most is not None and len(self._asked) >= most
        return max(0.0, self.barred_until - now, self._asked[-(most or 0)] + MINUTE_S - now if full else 0.0)

    def used_up(self, today: Tokens) -> bool:
        """Say whether ``today`` is all that it may take in a day."""
        tokens, dollars = self.provider.tokens_per_day, self.provider.dollars_per_day
        if tokens is not None and today.read + today.written >= tokens:
            return True
        return dollars is not None and today.cost >= dollars


@dataclass(slots=True)
class Answer:
    """A reply so far: the words that went out, the calls, what all models took for it, and who spoke last.

    ``room`` is how many letters each model may send.
    ``heard_at``: when its last word went out, or the question came (loop time). ``whole``: it is of no use but as a
    whole. ``cut``: it was ended for it.
    """

    room: int
    heard_at: float
    whole: bool = False
    said: str = ""
    calls: set[tuple[str, str]] = field(default_factory=set)
    tokens: Tokens = NOTHING
    by: str = ""
    cut: bool = False

    def is_new(self, call: ToolCall) -> bool:
        """Say whether a call was not made in this reply before, and note it."""
        mark = (call.name, _canonical(call.arguments))
        known = mark in self.calls
        self.calls.add(mark)
        return not known

    def usage(self) -> Usage:
        """Return what it took, as the last piece."""
        took = self.tokens
        return Usage(took.read, took.written, took.cached, self.cut, took.cost, self.by)


def room(max_tokens: int) -> int:
    """Return how many letters a reply of so many tokens may have at most."""
    return max_tokens * LETTERS_PER_TOKEN + SLACK


def _believed(tokens: int) -> int:
    return tokens if 0 <= tokens <= MOST_TOKENS else 0


def _canonical(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


@dataclass(slots=True)
class Attempt:
    """One call of one model, for the accounts; ``began`` and ``first_at`` are loop time."""

    provider: str
    model: str
    terms: Model
    options: Options
    at: datetime
    began: float
    first_at: float | None = None
    usage: Usage | None = None
    status: str = OK
    error: str = ""
    cut: bool = False
    _written: int = 0

    def heard(self, text: str, now: float) -> None:
        """Count a piece that has come."""
        self._written += len(text.encode())
        if self.first_at is None:
            self.first_at = now

    def failed(self, error: Exception) -> None:
        """Note how it went wrong."""
        is_refused = isinstance(error, LlmError) and error.trouble is Trouble.REFUSED
        self.status = "stalled" if isinstance(error, EngineTimeout) else "refused" if is_refused else "failed"
        self.error = error.message if isinstance(error, EngineError) else str(error)

    def tokens(self, messages: Sequence[Message]) -> Tokens:
        """Return what it took: what the model said of that, else an estimate; nothing where it refused to begin."""
        took = self.usage or Usage()
        read, cached, written = map(_believed, (took.input_tokens, took.cached_tokens, took.output_tokens))
        if read or written:
            tokens = Tokens(read=read, cached=cached, written=written)
        elif self.first_at is None and self.status in ("failed", "refused"):
            return NOTHING
        else:
            read = sum(len(message.text.encode()) for message in messages) // BYTES_PER_TOKEN
            tokens = Tokens(read=read, written=-(-self._written // BYTES_PER_TOKEN))
        cost = took.cost if 0 < took.cost < math.inf else self.terms.cost(tokens)  # not a number is neither
        return tokens.model_copy(update={"cost": cost})

    def call(self, tokens: Tokens, now: float, trace: str) -> Call:
        """Return its row."""
        first = None if self.first_at is None else round((self.first_at - self.began) * 1000, 1)
        return Call(
            at=self.at,
            provider=self.provider,
            model=self.model,
            trace=trace,
            persona=self.options.persona,
            why=self.options.why,
            status=self.status,
            error=self.error,
            tokens=tokens,
            first_piece_ms=first,
            total_ms=round((now - self.began) * 1000, 1),
        )
