"""Supervised child processes for native engines that hold the interpreter, may hang, or may crash.

The parent opens a ``Child`` around a factory named by its dotted path; the factory is called in the child and the
object it returns does the work. Messages are pickles, each behind its length in four bytes; only parent and child
of one program ever speak them.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import pickle
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from roomtone.child_main import FAILED, HEADER, PIECE, START, STOP
from roomtone.clock import engine_working
from roomtone.core.errors import EngineCrashed, EngineError, EngineTimeout

log = logging.getLogger(__name__)

START_BOUND_S = 60.0
"""Longest that a child may take until its object is there; then it is killed."""

END_BOUND_S = 5.0
"""Longest that the end of a killed process is waited for: one that the kernel holds must not hold the daemon too."""

LARGEST_ANSWER = 16 * 1024 * 1024
"""Bytes; a child that announces a larger answer has lost its mind and is killed before any of it is read."""

READ_AHEAD = 64 * 1024
"""Bytes of an answer that are held back before the child has to wait; a larger answer is read piece by piece."""

LINES_LOGGED, LINE_LENGTH = 10, 300
"""Of what a child prints, lines that reach the log for each call, and letters of each."""

STOP_BOUND_S = 1.0
"""Longest that a child may go on with what nobody wants any more; then it is killed."""

FLOOD = 4 * 1024 * 1024
"""Bytes that a child may print for each call; one that prints more is killed."""

starts: Counter[str] = Counter()
"""How often each engine's process was started since this program began: more than once is a restart."""


class Child:
    """One engine in a process of its own: a crash or a hang is an EngineError and the next call has a new process."""

    def __init__(self, name: str, factory: str, args: tuple[Any, ...]) -> None:
        self.name = name
        self._factory = factory
        self._args = args
        self._process: asyncio.subprocess.Process | None = None
        self._printed: _Printed | None = None
        self._turnstile = asyncio.Lock()
        self._numbers = itertools.count(1)
        self._length: int | None = None
        self._starting: tuple[int, float] | None = None

    @property
    def pid(self) -> int | None:
        """The process id, while there is a process."""
        return self._process.pid if self._process else None

    async def call(self, method: str, *args: Any, timeout: float, start_timeout: float = START_BOUND_S) -> Any:
        """Call a method of the object in the child and return its (picklable) result.

        Raises EngineTimeout after ``timeout`` seconds (the process is killed), EngineCrashed where the process
        ended, EngineError with the message of what the method raised. If the caller is cancelled, the method's
        late result is dropped. A process that is not there yet, or is starting, is waited for ``start_timeout``
        seconds; then EngineTimeout is raised, and it goes on starting.
        """
        async with self._turnstile:
            with engine_working():
                process = await self._started(start_timeout)
                self._begin_anew()
                async with self._watched(process, timeout):
                    number = await self._asked(process, method, args)
                    return (await self._answer(process, number))[1]

    async def stream(
        self, method: str, *args: Any, timeout: float, start_timeout: float = START_BOUND_S
    ) -> AsyncIterator[Any]:
        """Call a generator of the object in the child, ``method(stop, *args)``, and yield what it yields.

        ``stop`` is a ``child_main.Stop``: it is true once nobody wants any more. ``timeout`` bounds the wait for each
        piece, the first and the end included. Closing this, or being cancelled at it, stops the method, and the
        process serves the next call; one that has not stopped after ``STOP_BOUND_S`` is killed. Raises as ``call``
        does, after the pieces that came before.
        """
        async with self._turnstile:
            with engine_working():
                process = await self._started(start_timeout)
                self._begin_anew()
            number = self._ask(process, method, args, streams=True)
            try:
                while True:
                    with engine_working():
                        async with self._watched(process, timeout):
                            kind, piece = await self._answer(process, number)
                    if kind != PIECE:
                        return
                    yield piece
            except (asyncio.CancelledError, GeneratorExit):
                await self._stop(process, number)
                raise

    async def _stop(self, process: asyncio.subprocess.Process, number: int) -> None:
        """Stop what is streamed, and wait until it has."""
        if self._process is not process:
            return
        self._send(process, (number, STOP, (), False))
        try:
            with engine_working():
                async with asyncio.timeout(STOP_BOUND_S):
                    while (await self._answer(process, number))[0] == PIECE:
                        pass
        except EngineError as error:
            log.debug("%s failed when it was stopped: %s", self.name, error)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError, _Nonsense) as error:
            log.warning("%s did not stop in time and was restarted (%s)", self.name, type(error).__name__)
            await self._kill()

    async def end(self) -> None:
        """End the process, once nobody uses it; the next call has a new one."""
        async with self._turnstile:
            await self._kill()

    @asynccontextmanager
    async def _watched(self, process: asyncio.subprocess.Process, timeout: float) -> AsyncIterator[None]:
        """Bound what is done with a process; whatever shows that it is of no use any more ends it."""
        bound = asyncio.timeout(timeout)
        try:
            async with bound:
                yield
        except TimeoutError:
            await self._kill()
            raise EngineTimeout(f"{self.name} did not answer within {timeout:g} s and was restarted") from None
        except (asyncio.IncompleteReadError, ConnectionError, _Nonsense) as error:
            reason = str(error) if isinstance(error, _Nonsense) else await self._why_it_ended(process)
            await self._kill()
            raise EngineCrashed(f"{self.name} {reason} and was restarted") from error

    async def _why_it_ended(self, process: asyncio.subprocess.Process) -> str:
        """Say why a process that closed its end has ended; its status comes a moment later than that."""
        try:
            async with asyncio.timeout(END_BOUND_S):
                status = await process.wait()
        except TimeoutError:
            return "closed its answers"
        if self._printed is not None and self._printed.flooded:
            return "printed without end"
        if status == -signal.SIGKILL:
            return "was killed, most likely for want of memory,"
        return f"ended unexpectedly ({signal.Signals(-status).name if status < 0 else f'exit {status}'})"

    def _begin_anew(self) -> None:
        assert self._printed is not None
        self._printed.begin_anew()

    async def _asked(self, process: asyncio.subprocess.Process, method: str, args: tuple[Any, ...]) -> int:
        assert process.stdin is not None
        number = self._ask(process, method, args)
        await process.stdin.drain()
        return number

    def _ask(
        self, process: asyncio.subprocess.Process, method: str, args: tuple[Any, ...], *, streams: bool = False
    ) -> int:
        number = next(self._numbers)
        self._send(process, (number, method, args, streams))
        return number

    def _send(self, process: asyncio.subprocess.Process, request: tuple[int, str, tuple[Any, ...], bool]) -> None:
        assert process.stdin is not None
        message = pickle.dumps(request, protocol=pickle.HIGHEST_PROTOCOL)
        process.stdin.write(HEADER.pack(len(message)) + message)

    async def _answer(self, process: asyncio.subprocess.Process, wanted: int) -> tuple[int, Any]:
        """Return what kind of answer came to a request, and the answer. Raises EngineError where it failed."""
        assert process.stdout is not None
        while True:
            # A caller may be cancelled at either wait: what was read of an answer is kept for the next one.
            if self._length is None:
                (self._length,) = HEADER.unpack(await process.stdout.readexactly(HEADER.size))
            if self._length > LARGEST_ANSWER:
                raise _Nonsense(f"announced an answer of {self._length} bytes")
            content = await process.stdout.readexactly(self._length)
            self._length = None
            number, kind, result = _read(content)
            if number != wanted:
                continue  # the late answer to a call whose caller was cancelled
            if kind == FAILED:
                raise EngineError(f"{self.name}: {result}")
            return kind, result

    async def _started(self, timeout: float) -> asyncio.subprocess.Process:
        """Return a process whose object is there, starting one if need be.

        Raises EngineTimeout after ``timeout`` seconds, or EngineError where it cannot be.
        """
        process = self._process
        if process is None or process.returncode is not None:
            process = await self._start()
        if self._starting is None:
            return process
        number, deadline = self._starting
        left = deadline - time.monotonic()
        try:
            async with self._watched(process, left):
                try:
                    async with asyncio.timeout(timeout):
                        await self._answer(process, number)
                except TimeoutError:
                    if timeout >= left:
                        raise
                    raise EngineTimeout(f"{self.name} is still starting") from None
        except EngineTimeout:
            raise
        except EngineError:
            await self._kill()
            raise
        self._starting = None
        return process

    async def _start(self) -> asyncio.subprocess.Process:
        await self._kill()
        readable, writable = os.pipe()
        process = None
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "roomtone.child_main"),
                env={**os.environ, "PYTHONMALLOC": "malloc"},  # freed memory goes back; Python's own pools keep 4 MB
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=writable,
                limit=READ_AHEAD,
                start_new_session=True,  # Ctrl-C is the parent's to answer; the child ends when its stdin does
            )
        except OSError as error:
            raise EngineCrashed(f"{self.name} cannot be started: {error.strerror}") from error
        finally:
            os.close(writable)
            if process is None:
                os.close(readable)
        starts[self.name] += 1
        self._process, self._length = process, None
        self._printed = _Printed(self.name, readable, process.kill)
        self._starting = (self._ask(process, START, (self._factory, self._args)), time.monotonic() + START_BOUND_S)
        return process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        printed, self._printed = self._printed, None
        self._starting = None
        if process is not None:
            if process.returncode is None:
                process.kill()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.close()
            with engine_working():
                try:
                    async with asyncio.timeout(END_BOUND_S):
                        while await process.stdout.read(READ_AHEAD):
                            pass  # a pipe that was not read to its end stays open
                        await process.wait()
                except TimeoutError:
                    log.error("%s (process %d) cannot be killed and is left behind", self.name, process.pid)
        if printed is not None:
            printed.close()


class _Nonsense(Exception):
    """An answer that no child of ours would give; says what the child did."""


def _read(content: bytes) -> tuple[int, int, Any]:
    try:
        number, kind, result = pickle.loads(content)
    except Exception as error:  # pickle raises whatever the bytes lead it to
        raise _Nonsense("gave an answer that cannot be read") from error
    return number, kind, result


class _Printed:
    """What a child and the libraries in it print: a few lines go to the log, and none of it ever makes it wait."""

    def __init__(self, name: str, readable: int, kill: Callable[[], None]) -> None:
        self.flooded = False
        self._name = name
        self._readable = readable
        self._kill = kill
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._open = True
        os.set_blocking(readable, False)
        self._loop.add_reader(readable, self._hear)
        self.begin_anew()

    def begin_anew(self) -> None:
        """Begin to count for another call."""
        self._lines = self._bytes = 0

    def close(self) -> None:
        """Log what is left and read no more."""
        while self._open and self._bytes <= FLOOD:
            if not self._hear():
                break
        self._end()

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._readable)
            os.close(self._readable)

    def _hear(self) -> bool:
        try:
            content = os.read(self._readable, READ_AHEAD)
        except BlockingIOError:
            return False
        if not content:
            self._end()
            return False
        self._bytes += len(content)
        if self._bytes > FLOOD and not self.flooded:
            self.flooded = True
            self._kill()
        if self._lines <= LINES_LOGGED:
            *lines, self._rest = (self._rest + content).split(b"\n")
            self._rest = self._rest[:LINE_LENGTH]
            self._log([line for line in lines if line.strip()])
        return True

    def _log(self, lines: list[bytes]) -> None:
        for line in lines[: LINES_LOGGED - self._lines]:
            log.info("%s: %s", self._name, line[:LINE_LENGTH].decode("utf-8", "replace").rstrip())
        if self._lines < LINES_LOGGED < self._lines + len(lines):
            log.info("%s prints more, which is left out", self._name)
        self._lines += len(lines)


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
