"""How a provider's stream becomes pieces, whichever its dialect: bounded, and whole or refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roomtone.core.dialog import Message, Role, new_id
from roomtone.core.tooling import ToolSpec
from roomtone.engines.llm import Options, Piece, Text, ToolCall, Trouble, Usage
from roomtone.engines.llm._trouble import Provider

LETTERS_A_TOKEN = 12
"""No language's tokens are longer in the mean (English: about 4), so more letters than this for each token that was
asked for are a model, or a server, that does not stop."""

LONGEST_ARGUMENTS = 65_536
"""Letters of all calls of one reply."""

ENDLESS = "endless"

BROKE_OFF = "broke off in the midst of its reply"

LONGEST_NAME = 64
"""Letters of a tool's name (the API references of OpenAI and Anthropic: ``^[a-zA-Z0-9_-]{1,64}$``)."""


class Names:
    """Tools' names as these APIs take them, and back: a dot is sent as two underscores.

    Of names that would be sent as the same, all but the first have a number behind.
    """

    def __init__(self, tools: Iterable[ToolSpec]) -> None:
        self._names: dict[str, str] = {}
        for tool in tools:
            plain = sent = wire_name(tool.name)
            number = 1
            while sent in self._names:
                number += 1
                sent = f"{plain[: LONGEST_NAME - 4]}_{number}"
            self._names[sent] = tool.name
        self._sent = {name: sent for sent, name in self._names.items()}

    def send(self, name: str) -> str:
        """Return the name to send for a tool, also for one that is not offered any more."""
        return self._sent.get(name) or wire_name(name)

    def back(self, sent: str) -> str:
        """Return the tool that a model means; a name that nobody sent it comes back as it is."""
        return self._names.get(sent, sent)


def wire_name(name: str) -> str:
    """Write a tool's name with the letters that these APIs take."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", name.replace(".", "__"))[:LONGEST_NAME] or "_"


def arguments_of(written: str) -> dict[str, Any]:
    """Read the arguments of an earlier call; what is no JSON object was none, and the server would refuse it."""
    try:
        arguments = json.loads(written)
    except (ValueError, RecursionError):
        return {}
    return arguments if isinstance(arguments, dict) else {}


def whole(text: str) -> str:
    """Join the halves of letters beyond 16 bits that JSON was written with; a half alone becomes a question mark."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def answered(messages: Sequence[Message]) -> list[tuple[Message, list[Mapping[str, Any]]]]:
    """Return messages with the calls of each that were answered later; answers to no call are left out.

    A turn that was interrupted while a tool ran leaves a call without an answer, which these APIs refuse.
    """
    answers = {message.data.get("call") for message in messages if message.role is Role.TOOL}
    kept: list[tuple[Message, list[Mapping[str, Any]]]] = []
    called: set[Any] = set()
    for message in messages:
        if message.role is Role.TOOL and message.data.get("call") not in called:
            continue
        calls = [call for call in message.data.get("calls", ()) if call["id"] in answers]
        called |= {call["id"] for call in calls}
        kept.append((message, calls))
    return kept


@dataclass(slots=True)
class Call:
    """A tool call while it is being written."""

    id: str
    name: str
    arguments: str = ""


@dataclass(slots=True)
class Reading:
    """What was read of one reply. A dialect's own reading turns events into these words and calls.

    ``finish`` is why it ended, in the provider's words; None while it goes on.
    """

    provider: Provider
    options: Options
    names: Names
    finish: str | None = None
    usage: Usage = field(default_factory=Usage)
    cut: bool = False
    calls: list[Call] = field(default_factory=list)
    _half: str = ""
    _letters: int = 0
    _arguments: int = 0

    @property
    def over(self) -> bool:
        """Whether nothing of the reply is missing."""
        return self.finish is not None

    @property
    def endless(self) -> bool:
        """Whether the reply was ended here because it did not end by itself."""
        return self.finish == ENDLESS

    def take(self, event: Any) -> Iterator[Piece]:
        """Yield what an event brings. Raises LlmError where it is none of this dialect."""
        raise NotImplementedError

    def say(self, delta: str) -> Iterator[Piece]:
        """Pass some text on, up to what a reply may be; a single delta beyond that is nonsense."""
        delta = self._half + delta
        self._half = delta[-1:] if "\ud800" <= delta[-1:] <= "\udbff" else ""
        delta = whole(delta.removesuffix(self._half))
        room = self.options.max_tokens * LETTERS_A_TOKEN - self._letters
        self._letters += len(delta)
        if delta and room > 0:
            yield Text(delta[:room])
        if len(delta) > self.options.max_tokens * LETTERS_A_TOKEN:
            raise self.provider.trouble(Trouble.NONSENSE, f"sends {len(delta)} letters at once, which is no delta")
        if len(delta) > room:
            self.cut, self.finish = True, ENDLESS

    def begin_call(self, id: str | None, name: str) -> Call:  # noqa: A002  # the APIs' word
        """Note a call that begins; where the server gives it no id, it gets one."""
        call = Call(id or f"call_{new_id()[:12]}", self.names.back(name))
        self.calls.append(call)
        return self.go_on(call, "")

    def go_on(self, call: Call, arguments: str) -> Call:
        """Add to a call's arguments. Raises LlmError (nonsense) when they do not end."""
        self._arguments += len(arguments) + 1
        if self._arguments > LONGEST_ARGUMENTS:
            raise self.provider.trouble(Trouble.NONSENSE, "calls a tool with arguments that do not end")
        call.arguments += arguments
        return call

    def end(self, reason: str, *, cut: bool, refused: bool) -> Iterator[Piece]:
        """Note why the reply ended, and pass its calls on. Raises LlmError (refused)."""
        if self.over:
            return
        if refused:
            raise self.provider.trouble(Trouble.REFUSED, "will not answer this")
        if reason == "error":
            raise self.provider.trouble(Trouble.BUSY, BROKE_OFF)
        self.finish, self.cut = reason, cut
        if not self.calls and not self._letters:
            why = (
                "it thought until its tokens were spent; raise max_response_tokens" if cut else f"it ended: {reason}"
            )
            raise self.provider.trouble(Trouble.NONSENSE, f"said nothing ({why})")
        for call in self.calls:
            yield ToolCall(call.id, call.name, whole(call.arguments) or "{}")

    def closed(self) -> Usage:
        """Return what the reply took. Raises LlmError where it broke off without an end."""
        if not self.over:
            raise self.provider.trouble(Trouble.BUSY, BROKE_OFF)
        used = self.usage
        return Usage(used.input_tokens, used.output_tokens, used.cached_tokens, cut=self.cut, cost=used.cost)
