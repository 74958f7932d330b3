"""Server-sent events out of bytes as they come (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""

from __future__ import annotations

import re

_LINE = re.compile(rb"\r\n|\n|\r(?!$)")
"""The end of a line; a carriage return at the end of what came so far may be half of one."""


class Events:
    """Puts events together: bytes in, the data of every whole event out. What no blank line ended is no event.

    Names and ids of events are passed over: whoever reads these APIs finds all of it in the data.
    """

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._data: list[bytes] = []
        self.count = 0

    def feed(self, piece: bytes) -> list[bytes]:
        """Take some bytes and return the data of the events that they complete."""
        self._rest.append(piece)
        if b"\n" not in piece and b"\r" not in piece:
            return []  # a line of megabytes is put together once
        *lines, rest = _LINE.split(b"".join(self._rest))
        self._rest = [rest]
        return [data for line in lines if (data := self._line(line.removeprefix(b"\xef\xbb\xbf"))) is not None]

    def _line(self, line: bytes) -> bytes | None:
        if line:
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            return None
        data, self._data = self._data, []
        self.count += bool(data)
        return b"\n".join(data) if data else None
