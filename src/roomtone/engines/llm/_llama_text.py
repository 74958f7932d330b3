"""The text of a model on this machine, taken apart as it comes: what it says, and the tools it calls."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

CALL, CALLED = "<tool_call>", "</tool_call>"
"""Marks around a call of a tool, as Hermes and Qwen write it; what stands between them is never said."""


@dataclass(frozen=True, slots=True)
class Call:
    """A tool is called. ``arguments`` is JSON; one that cannot be read is of the tool "", as it was written."""

    name: str
    arguments: str


class Talk:
    """Takes a text in pieces of any length; gives what may be said as soon as no mark can begin in it."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stopped = False
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self._calling = False

    def feed(self, text: str) -> Iterator[str | Call]:
        """Take some more text. Nothing comes any more once it was ``stopped`` by one of the stops."""
        self._held += text
        while not self.stopped:
            if self._calling:
                inside, called, rest = self._held.partition(CALLED)
                if not called:
                    return
                yield read_call(inside)
                self._held, self._calling = rest, False
                continue
            place, mark = self._first_mark()
            if place:
                yield self._held[:place]
            self._held = self._held[place + len(mark) :]
            if not mark:
                return
            self.stopped, self._calling = mark in self._stops, mark == CALL

    def end(self) -> Iterator[str | Call]:
        """Give what was held back, there being no more text. A call without its end counts."""
        if self.stopped or not self._held:
            return
        yield read_call(self._held) if self._calling else self._held

    def _first_mark(self) -> tuple[int, str]:
        """Return where the first whole mark is, or where one may begin at the end, which mark is "" then."""
        marks = (CALL, *self._stops)
        found = [(place, mark) for mark in marks if (place := self._held.find(mark)) >= 0]
        if found:
            return min(found)
        longest = max(len(mark) for mark in marks) - 1
        for place in range(max(0, len(self._held) - longest), len(self._held)):
            if any(mark.startswith(self._held[place:]) for mark in marks):
                return place, ""
        return len(self._held), ""


def read_call(text: str) -> Call:
    """Read what stands between the marks of a call."""
    try:
        called = json.loads(text)
        arguments = called.get("arguments", {})
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        return Call(str(called["name"]), written)
    except (ValueError, LookupError, AttributeError, RecursionError):
        return Call("", text.strip())
