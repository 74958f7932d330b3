"""The child's side of a ``Child``: calls what its parent asks for.

It has a module of its own so that a child carries nothing of what the parent needs: asyncio alone takes 3 MB.
"""

from __future__ import annotations

import importlib
import os
import pickle
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

from roomtone.core.errors import RoomtoneError

HEADER = struct.Struct("<I")
"""The length before each message."""

OOM_SCORE = 500
"""Points (of 1000) by which the kernel, short of memory, would sooner kill a child than the daemon."""


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Be the child: answer requests until their stream ends."""
    target: Any = None
    while len(header := requests.read(HEADER.size)) == HEADER.size:
        number, method, args = pickle.loads(requests.read(HEADER.unpack(header)[0]))  # our parent
        try:
            if method:
                answer = (number, False, getattr(target, method)(*args))
            else:
                path, arguments = args
                module, _, function = path.partition(":")
                target = getattr(importlib.import_module(module), function)(*arguments)
                answer = (number, False, None)
        except Exception as error:
            said = error.message if isinstance(error, RoomtoneError) else f"{type(error).__name__}: {error}"
            answer = (number, True, said)
        content = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
        answers.write(HEADER.pack(len(content)) + content)
        answers.flush()


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
