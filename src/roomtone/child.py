"""Supervised child processes for native engines that hold the interpreter, may hang, or may crash.

The parent opens a ``Child`` around a factory named by its dotted path; the factory is called in the child and the
object it returns does the work. Messages are pickles, each behind its length in four bytes; only parent and child
of one program ever speak them.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import os
import pickle
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

from roomtone.clock import engine_working
from roomtone.core.errors import EngineCrashed, EngineError, EngineTimeout

HEADER = struct.Struct("<I")
START_BOUND_S = 60.0

starts: Counter[str] = Counter()
"""How often each engine's process was started since this program began: more than once is a restart."""


class Child:
    """One engine in a process of its own: a crash or a hang is an EngineError and the next call has a new process."""

    def __init__(self, name: str, factory: str, args: tuple[Any, ...]) -> None:
        self.name = name
        self._factory = factory
        self._args = args
        self._process: asyncio.subprocess.Process | None = None
        self._turnstile = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._length: int | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while there is a process."""
        return self._process.pid if self._process else None

    async def call(self, method: str, *args: Any, timeout: float) -> Any:
        """Call a method of the object in the child and return its (picklable) result.

        Raises EngineTimeout after ``timeout`` seconds (the process is killed), EngineCrashed where the process
        ended, EngineError with the message of what the method raised. If the caller is cancelled, the method's
        late result is dropped.
        """
        async with self._turnstile:
            with engine_working():
                process = await self._started()
                return await self._bounded(process, method, args, timeout)

    async def _bounded(
        self, process: asyncio.subprocess.Process, method: str, args: tuple[Any, ...], timeout: float
    ) -> Any:
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(process, (next(self._numbers), method, args))
        except TimeoutError:
            await self._kill()
            raise EngineTimeout(f"{self.name} did not answer within {timeout:g} s and was restarted") from None
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await self._kill()
            raise EngineCrashed(f"{self.name} ended unexpectedly and was restarted") from error

    async def _exchange(self, process: asyncio.subprocess.Process, request: tuple[int, str, Any]) -> Any:
        assert process.stdin is not None
        assert process.stdout is not None
        message = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
        process.stdin.write(HEADER.pack(len(message)) + message)
        await process.stdin.drain()
        while True:
            # A caller may be cancelled at either wait: what was read of an answer is kept for the next one.
            if self._length is None:
                (self._length,) = HEADER.unpack(await process.stdout.readexactly(HEADER.size))
            content = await process.stdout.readexactly(self._length)
            self._length = None
            number, failed, result = pickle.loads(content)
            if number != request[0]:
                continue  # the late answer to a call whose caller was cancelled
            if failed:
                raise EngineError(f"{self.name}: {result}")
            return result

    async def _started(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "roomtone.child"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=1 << 24,
                start_new_session=True,  # Ctrl-C is the parent's to answer; the child ends when its stdin does
            )
        except OSError as error:
            raise EngineCrashed(f"{self.name} cannot be started: {error.strerror}") from error
        starts[self.name] += 1
        self._length = None
        try:
            await self._bounded(self._process, "", (self._factory, self._args), START_BOUND_S)
        except EngineError:
            await self._kill()
            raise
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            process.kill()
        assert process.stdin is not None
        process.stdin.close()
        with engine_working():
            await process.wait()


@asynccontextmanager
async def child(name: str, factory: str, *args: Any) -> AsyncIterator[Child]:
    """Open a Child around ``factory`` (``package.module:function``, called with ``args`` in the child).

    The process starts with the first call and has ended when the context has.
    """
    made = Child(name, factory, args)
    try:
        yield made
    finally:
        await made._kill()  # noqa: SLF001  # this function is the other half of the class


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
            answer = (number, True, f"{type(error).__name__}: {error}")
        content = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
        answers.write(HEADER.pack(len(content)) + content)
        answers.flush()


def main() -> None:
    """Keep the real stdout for answers: whatever a native library prints goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
