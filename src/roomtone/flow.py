"""The only concurrency helpers: ahead(), beside(), task_group(), cancelling_group(), Feed, Worker, keep_trying().

Everything else is a TaskGroup or a context manager. Nothing here outlives the ``async with`` that opened it.
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import logging
import queue
import random
import sys
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from roomtone.clock import engine_working
from roomtone.core.dialog import now
from roomtone.core.errors import EngineTimeout

log = logging.getLogger(__name__)
T = TypeVar("T")


# ---------------------------------------------------------------------------------------------- ahead


class Stream(Generic[T]):
    """What ``ahead`` gives its reader: an async iterator that can also be asked for a bounded time."""

    def __init__(self, items: int) -> None:
        self._pipe: asyncio.Queue[tuple[bool, Any]] = asyncio.Queue(max(1, items))

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        there, item = await self._pipe.get()
        if there:
            return item  # type: ignore[no-any-return]  # the pipe carries failures and the end beside items
        raise StopAsyncIteration if item is None else item

    async def within(self, seconds: float) -> T:
        """Return the next item; raise TimeoutError, losing nothing, if there is none for so long."""
        async with asyncio.timeout(seconds):
            return await anext(self)

    async def put(self, item: T) -> None:
        """Add an item, once there is room for it."""
        await self._pipe.put((True, item))

    async def fed(self, work: Awaitable[None]) -> None:
        """Wait for work that puts items here; its failure, or the end, comes behind the last of them."""
        try:
            await work
        except Exception as error:
            await self._pipe.put((False, error))
        else:
            await self._pipe.put((False, None))

    async def fill(self, source: AsyncIterator[T]) -> None:
        """Read the source into the pipe, its failure or its end last, and close it."""
        try:
            await self.fed(self._read(source))
        finally:
            await close(source)

    async def _read(self, source: AsyncIterator[T]) -> None:
        async for item in source:
            await self.put(item)


@asynccontextmanager
async def ahead(source: AsyncIterator[T], items: int) -> AsyncIterator[Stream[T]]:
    """Let ``source`` run up to ``items`` ahead of whoever reads the stream this yields.

    A failure of the source travels through the stream, in its place: what came before it is still delivered.
    Leaving the context stops and closes the source. (A context manager, not a generator, because a generator must
    not yield inside a task group: PEP 789.)
    """
    stream: Stream[T] = Stream(items)
    async with beside(stream.fill(source), "ahead"):
        yield stream


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], name: str) -> AsyncIterator[None]:
    """Run ``work`` for as long as the context lasts; it has ended when the context has.

    A failure of the work ends the context with that failure.
    """
    async with task_group() as group:
        task = group.create_task(work, name=name)
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


@asynccontextmanager
async def task_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a task group out of which a single failure comes as it is, not as a group of one."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as failures:
        if len(failures.exceptions) == 1:
            raise failures.exceptions[0] from None
        raise


@asynccontextmanager
async def cancelling_group() -> AsyncIterator[asyncio.TaskGroup]:
    """Open a task group whose tasks are cancelled when the context ends, and have ended when it has."""
    opened: asyncio.Future[asyncio.TaskGroup] = asyncio.get_running_loop().create_future()

    async def hold() -> None:
        async with task_group() as group:
            opened.set_result(group)
            await asyncio.Event().wait()

    async with beside(hold(), "holding a group"):
        yield await opened


def is_cancelled() -> bool:
    """Say whether this task was told to end: what a library raises at that is no failure to go on from."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def close(source: Any) -> None:
    """Close an async iterator if it can be closed (generators can)."""
    closing = getattr(source, "aclose", None)
    if closing is not None:
        await closing()


# ----------------------------------------------------------------------------------------------- Feed


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened: ``kind`` (``turn.ended``), who said so, when (UTC), and what it belongs to.

    ``trace`` is the id of its turn and ``cause`` the id of the event that caused it, where there is one.
    """

    id: int
    kind: str
    source: str
    at: datetime
    trace: str | None
    cause: int | None
    data: Any


@dataclass(slots=True)
class Watcher:
    """One subscription: an async iterator of events that match a pattern.

    A watcher that does not keep up loses its oldest events; ``missed`` says how many.
    """

    pattern: str
    depth: int
    missed: int = 0
    closed: bool = False
    _events: deque[Event] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, event: Event) -> None:
        """Hand over an event; never waits."""
        if len(self._events) >= self.depth:
            self._events.popleft()
            self.missed += 1
        self._events.append(event)
        self._news.set()

    @property
    def waiting(self) -> int:
        """Events that were not taken yet."""
        return len(self._events)

    def end(self) -> None:
        """End the iteration once what is there was read."""
        self.closed = True
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self.closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()


@dataclass(slots=True)
class Tally:
    """How many events of a kind there were, and when the last one was."""

    count: int = 0
    last: datetime | None = None


class Feed:
    """Where state and finished turns go out: publish never waits, watchers cannot harm each other."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self._watchers: list[Watcher] = []
        self.tallies: dict[str, Tally] = {}
        self.failures: Counter[str] = Counter()
        self._missed_before = 0

    def publish(
        self, kind: str, data: Any = None, *, source: str, trace: str | None = None, cause: int | None = None
    ) -> Event:
        """Send an event to every watcher whose pattern matches its kind."""
        event = Event(next(self._ids), kind, source, now(), trace, cause, data)
        tally = self.tallies.setdefault(kind, Tally())
        tally.count += 1
        tally.last = event.at
        for watcher in self._watchers:
            if fnmatch.fnmatchcase(kind, watcher.pattern):
                watcher.offer(event)
        return event

    @contextmanager
    def watch(self, pattern: str = "*", depth: int = 256) -> Iterator[Watcher]:
        """Subscribe to the kinds that match a pattern such as ``turn.*``."""
        watcher = Watcher(pattern, depth)
        self._watchers.append(watcher)
        try:
            yield watcher
        finally:
            self._watchers.remove(watcher)
            self._missed_before += watcher.missed
            watcher.end()

    @property
    def watching(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def waiting(self) -> int:
        """Events that watchers have not taken yet."""
        return sum(watcher.waiting for watcher in self._watchers)

    @property
    def missed(self) -> int:
        """Events that watchers lost because they did not keep up, those that have left included."""
        return self._missed_before + sum(watcher.missed for watcher in self._watchers)

    async def attend(self, name: str, pattern: str, react: Callable[[Event], Awaitable[None]]) -> None:
        """Call ``react`` for every matching event, for as long as this runs; its failures are counted and logged.

        A failing watcher goes on with the next event and never reaches whoever published.
        """
        with self.watch(pattern) as events:
            async for event in events:
                try:
                    await react(event)
                except Exception:
                    self.failures[name] += 1
                    log.exception("%s failed at %s", name, event.kind)


# --------------------------------------------------------------------------------------------- Worker


@dataclass(slots=True)
class _Job:
    work: Callable[[], Any]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[Any]

    def run(self) -> None:
        try:
            result, error = self.work(), None
        except BaseException as problem:  # it must reach whoever waits, whatever it is
            result, error = None, problem
        try:
            self.loop.call_soon_threadsafe(self._settle, result, error)
        except RuntimeError:
            log.debug("a worker's result came after its loop had closed")

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self.done.done():
            return
        if error is not None:
            self.done.set_exception(error)
        else:
            self.done.set_result(result)


SWITCH_S = 0.0005
"""So long one thread keeps the interpreter while another waits for it. Python's own 5 ms is longer than finding an
intent takes: a search in the store, which is mostly SQLite's work, would begin only after it. Over 80 questions among
100,000 facts both side by side took 17.0 ms, and 14.5 with this, the search alone 12 to 13."""


def share_the_interpreter() -> None:
    """Let threads wait less for each other; for the whole process."""
    sys.setswitchinterval(SWITCH_S)


class Worker:
    """One thread that runs blocking calls one after the other, for one engine.

    A call that outlives its bound is given up: the caller gets EngineTimeout, the stuck thread is left behind (it
    is a daemon thread: it cannot keep the process alive) and the next call has a fresh one.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[_Job | None]
        self._start()

    def _start(self) -> None:
        self._jobs = queue.SimpleQueue()
        threading.Thread(target=_work_off, args=(self._jobs,), name=self._name, daemon=True).start()

    async def call(self, work: Callable[..., T], *args: Any, timeout: float | None = None) -> T:
        """Run ``work(*args)`` on the thread and return its result.

        If the caller is cancelled the work goes on and its result is dropped. Raises what the work raises, and
        EngineTimeout after ``timeout`` seconds.
        """
        loop = asyncio.get_running_loop()
        job = _Job(lambda: work(*args), loop, loop.create_future())
        self._jobs.put(job)
        with engine_working():
            try:
                async with asyncio.timeout(timeout):
                    result: T = await job.done
                    return result
            except TimeoutError:
                if job.done.done() and not job.done.cancelled():
                    raise  # the work's own TimeoutError
                self.close()  # should the stuck call return after all, its thread ends
                self._start()
                raise EngineTimeout(f"{self._name} did not answer within {timeout} s and was replaced") from None

    async def stream(self, work: Callable[[Callable[[T], None], threading.Event], None]) -> AsyncIterator[T]:
        """Run ``work(emit, stop)`` on the thread and yield what it emits while it runs.

        Closing the iterator sets ``stop``, which the work should look at often, and waits for the work to end.
        """
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[bool, Any]] = asyncio.Queue()
        stop = threading.Event()

        def emit(piece: T) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, (True, piece))

        def run() -> None:
            try:
                work(emit, stop)
            except Exception as error:
                loop.call_soon_threadsafe(pieces.put_nowait, (False, error))
            else:
                loop.call_soon_threadsafe(pieces.put_nowait, (False, None))

        job = _Job(run, loop, loop.create_future())
        self._jobs.put(job)
        try:
            while True:
                with engine_working():
                    there, piece = await pieces.get()
                if there:
                    yield piece
                elif piece is None:
                    return
                else:
                    raise piece
        finally:
            stop.set()
            with engine_working():
                await asyncio.wait([job.done], timeout=1.0)

    def close(self) -> None:
        """Let the thread end after the work it has."""
        self._jobs.put(None)


def _work_off(jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        job.run()


@contextmanager
def worker(name: str) -> Iterator[Worker]:
    """Open a Worker; its thread ends with the context."""
    made = Worker(name)
    try:
        yield made
    finally:
        made.close()


# ---------------------------------------------------------------------------------------- keep_trying


async def keep_trying(
    attempt: Callable[[], Awaitable[T]],
    *,
    on: type[Exception] | tuple[type[Exception], ...],
    first_s: float = 0.5,
    longest_s: float = 30.0,
    jitter: float = 0.2,
    notice: Callable[[Exception, float], None] | None = None,
) -> T:
    """Call ``attempt`` until it does not raise ``on``, waiting twice as long each time, up to ``longest_s``.

    ``notice`` is told each failure and the wait in seconds that follows. Any other exception comes through.
    """
    wait = first_s
    while True:
        try:
            return await attempt()
        except on as error:
            pause = wait * random.uniform(1 - jitter, 1 + jitter)  # spreads load, guards nothing
            if notice is not None:
                notice(error, pause)
            await asyncio.sleep(pause)
            wait = min(longest_s, wait * 2)


class Inbox(Generic[T]):
    """Where facts come in: any part may post, one part reads; posting never waits."""

    def __init__(self) -> None:
        self._facts: asyncio.Queue[T] = asyncio.Queue()

    def post(self, fact: T) -> None:
        """Add a fact. Foreign threads must come through ``call_soon_threadsafe``."""
        self._facts.put_nowait(fact)

    async def next(self) -> T:
        """Return the oldest fact, waiting for one."""
        return await self._facts.get()
