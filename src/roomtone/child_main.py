"""The child's side of a ``Child``: calls what its parent asks for.

It has a module of its own so that a child carries nothing of what the parent needs: asyncio alone takes 3 MB. A
request is ``(number, method, args, streams)``; an answer is ``(number, kind, result)``.
"""

from __future__ import annotations

import importlib
import os
import pickle
import struct
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, BinaryIO

from roomtone.core.errors import RoomtoneError

HEADER = struct.Struct("<I")
"""The length before each message."""

START, STOP = "", "."
"""What stands for a method where the object is to be made, and where what is streamed is wanted no more."""

DONE, FAILED, PIECE = 0, 1, 2
"""Kinds of answers: the result (None at the end of a stream), why there is none, and some more of a stream."""

OOM_SCORE = 500
"""Points (of 1000) by which the kernel, short of memory, would sooner kill a child than the daemon."""

Request = tuple[int, str, Any, bool]


class Stop:
    """True once the parent wants no more of what is streamed; a thread may set it at any time."""

    def __init__(self) -> None:
        self.said = False

    def __bool__(self) -> bool:
        return self.said


class Requests:
    """What the parent asks for, in turn. Once something is streamed a thread reads it, so that a stop is heard."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._read: Any = None

    def next(self) -> tuple[Request, Stop] | None:
        """Return the next request and what stops it; None where there is none any more."""
        if self._read is not None:
            waiting: tuple[Request, Stop] | None = self._read.get()
            return waiting
        request, stop = self._one(), Stop()
        if request is None:
            return None
        if request[3]:
            self._listen(stop)
        return request, stop

    def _one(self) -> Request | None:
        header = self._source.read(HEADER.size)
        if len(header) < HEADER.size:
            return None
        request: Request = pickle.loads(self._source.read(HEADER.unpack(header)[0]))  # our parent
        return request

    def _listen(self, stop: Stop) -> None:
        import queue  # here, so that a child that streams nothing goes without
        import threading

        self._read = queue.SimpleQueue()
        threading.Thread(target=self._read_on, args=(stop,), daemon=True).start()

    def _read_on(self, last: Stop) -> None:
        """Read to the end. A stop is always for the request that came before it."""
        while (request := self._one()) is not None:
            if request[1] == STOP:
                last.said = True
            else:
                last = Stop()
                self._read.put((request, last))
        last.said = True
        self._read.put(None)


def serve(source: BinaryIO, answers: BinaryIO) -> None:
    """Be the child: answer requests until their stream ends."""
    target: Any = None
    requests = Requests(source)

    def answer(*message: Any) -> None:
        content = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        answers.write(HEADER.pack(len(content)) + content)
        answers.flush()

    while (waiting := requests.next()) is not None:
        (number, method, args, streams), stop = waiting
        try:
            if method == START:
                path, arguments = args
                module, _, function = path.partition(":")
                target = getattr(importlib.import_module(module), function)(*arguments)
                answer(number, DONE, None)
            elif streams:
                with closing(getattr(target, method)(stop, *args)) as pieces:
                    for piece in pieces:
                        answer(number, PIECE, piece)
                        if stop:
                            break
                answer(number, DONE, None)
            else:
                answer(number, DONE, getattr(target, method)(*args))
        except Exception as error:
            said = error.message if isinstance(error, RoomtoneError) else f"{type(error).__name__}: {error}"
            answer(number, FAILED, said)


def main() -> None:
    """Keep the real stdout for answers: whatever a native library prints goes to stderr."""
    try:
        Path("/proc/self/oom_score_adj").write_text(str(OOM_SCORE))
    except OSError as error:  # no such file off Linux
        sys.stderr.write(f"its place in a shortage of memory stays as it is: {error}\n")
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
