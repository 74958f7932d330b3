"""Routines: read from YAML, and run step beside step."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import ValidationError

from roomtone.core.errors import ConfigError, RoomtoneError
from roomtone.core.routine import Routine, Step, StepStatus, filled
from roomtone.flow import Stream, task_group

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent.parent / "mind" / "routines"
"""The routines that come with Roomtone."""

WORDS_AHEAD = 65536
"""Deltas that a step may be ahead of what is being said: none ever waits for the one before it to be spoken."""

LARGEST_FILE = 256 * 1024
"""Bytes of a routine's file, far more than the most steps of the longest texts take."""

Put = Callable[[str], Awaitable[None]]


class Deeds(Protocol):
    """What the steps of a routine are done with."""

    async def think(self, persona: str | None, text: str, put: Put, *, outside: bool = False) -> None:
        """Let a persona's model answer a text; ``put`` takes its words. ``outside``: strangers may have written some.

        Raises RoomtoneError.
        """

    async def use(
        self, persona: str | None, tool: str, arguments: Mapping[str, Any], *, outside: bool = False
    ) -> tuple[str, bool]:
        """Use a tool under a persona's permissions; return its result, and whether strangers wrote some of it.

        ``outside``: strangers may have written some of the arguments. Raises RoomtoneError.
        """


@dataclass(slots=True)
class Doing:
    """A step while a routine runs: what it came to, why it failed, and how long it took.

    ``outside``: strangers may have written some of what it came to.
    """

    step: Step
    status: StepStatus = StepStatus.PENDING
    result: str = ""
    error: str = ""
    took_s: float = 0.0
    outside: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def told(self) -> str:
        """What it came to, as a model reads it."""
        return self.result if self.status.useful else f"({self.status}: {self.error})"


OnStep = Callable[[str, Doing], None]
"""Told the id of a step whenever its status changes."""


class Running:
    """One run of a routine: ``steps`` say at any time how each stands. Run it once."""

    def __init__(self, routine: Routine, deeds: Deeds, max_parallel: int, on_step: OnStep = lambda *_: None) -> None:
        self.routine = routine
        self.steps = {id_: Doing(step) for id_, step in routine.steps.items()}
        self._deeds = deeds
        self._places = asyncio.Semaphore(min(max_parallel, routine.max_parallel or max_parallel))
        self._on_step = on_step
        self._words: dict[str, Stream[str]] = {id_: Stream(WORDS_AHEAD) for id_ in routine.told()}

    async def run(self, put: Put) -> None:
        """Do all steps; hand what is to be said to ``put`` as it comes, one step's words behind the other's."""
        try:
            async with task_group() as group:
                for id_ in self.routine.order():
                    group.create_task(self._do(id_), name=f"step {id_}")
                await self._tell(put)
        finally:
            for id_, doing in self.steps.items():
                if not doing.status.over:
                    self._become(id_, StepStatus.SKIPPED, error="the routine was stopped")

    async def _tell(self, put: Put) -> None:
        """Say one step's words behind the other's; one that ends without a stop is given one, or it runs on."""
        said = ""
        for words in self._words.values():
            begun = False
            async for word in words:
                await put(word if begun or not said else f" {word}")
                begun, said = True, word
            if begun and said.rstrip()[-1:].isalnum():
                await put(".")

    async def _do(self, id_: str) -> None:
        words = self._words.get(id_)
        await (words.fed(self._due(id_)) if words is not None else self._due(id_))

    async def _due(self, id_: str) -> None:
        """Do a step once all that it needs is over."""
        doing = self.steps[id_]
        try:
            for need in doing.step.after:
                await self.steps[need].over.wait()
            missing = [need for need in doing.step.after if not self.steps[need].status.useful]
            if missing and doing.step.prompt is None:
                await self._ended(id_, StepStatus.SKIPPED, f"{missing[0]} came to nothing")
                return
            async with self._places if doing.step.works else nullcontext():
                self._become(id_, StepStatus.RUNNING)
                await self._try(id_)
        finally:
            doing.over.set()

    async def _try(self, id_: str) -> None:
        doing, clock = self.steps[id_], asyncio.get_running_loop().time
        begun, status, error = clock(), StepStatus.DONE, ""
        try:
            async with asyncio.timeout(doing.step.timeout_s if doing.step.works else None) as bound:
                await self._done(id_, doing)
        except Exception as failure:
            status, error = StepStatus.FAILED, str(failure) or type(failure).__name__
            if bound.expired():
                status, error = StepStatus.LATE, f"took longer than {doing.step.timeout_s:g} s"
            elif isinstance(failure, RoomtoneError):
                error = failure.message
            else:
                log.exception("step %s of %s failed", id_, self.routine.name)
        doing.took_s = clock() - begun
        await self._ended(id_, status, error)

    def _results(self) -> dict[str, str]:
        return {id_: doing.result for id_, doing in self.steps.items() if doing.status.useful}

    async def _done(self, id_: str, doing: Doing) -> None:
        step, results = doing.step, self._results()
        doing.outside = any(self.steps[need].outside for need in step.after)
        if step.wait is not None:
            await asyncio.sleep(step.wait)
        elif step.tool is not None:
            arguments = filled(step.arguments, results)
            doing.result, outside = await self._deeds.use(step.persona, step.tool, arguments, outside=doing.outside)
            doing.outside = doing.outside or outside
        elif step.say is not None:
            await self._say(id_, filled(step.say, results))
        else:
            tainted, text = doing.outside, filled(step.prompt, results)
            doing.outside = tainted or step.persona is not None  # who uses tools may have read what strangers wrote
            await self._deeds.think(step.persona, text, lambda word: self._say(id_, word), outside=tainted)

    async def _say(self, id_: str, words: str) -> None:
        """Add to what a step comes to, and say it if that is to be said."""
        self.steps[id_].result += words
        if words and id_ in self._words:
            await self._words[id_].put(words)

    async def _ended(self, id_: str, status: StepStatus, error: str) -> None:
        """Note how a step ended; where it came to nothing, its fallback stands in, and is said if it was to be."""
        doing = self.steps[id_]
        if not status.useful and doing.step.fallback is not None:
            fallback = " ".join(filled(doing.step.fallback, self._results(), unknown="").split())
            status, begun = StepStatus.FALLBACK, doing.result if id_ in self._words else ""
            doing.result = (
                begun  # what was said cannot be taken back: the fallback is a sentence of its own behind it
            )
            stop = (". " if begun.rstrip()[-1:].isalnum() else " ") if begun else ""
            await self._say(id_, stop + fallback if fallback else "")
        self._become(id_, status, error)

    def _become(self, id_: str, status: StepStatus, error: str = "") -> None:
        doing = self.steps[id_]
        doing.status, doing.error = status, error or doing.error
        self._on_step(id_, doing)


@dataclass(frozen=True, slots=True)
class _File:
    """A file as it was read: when and how long it was, what it held when it was last whole, and why it is not now."""

    stamp: tuple[int, int]
    routine: Routine | None
    refused: str = ""


class Routines:
    """The routines of some folders, the household's first: a name that stands in several is the first one's.

    A file is read again when it has changed. ``refused`` has the reason for each that is broken, and ``warn`` is told
    of it once; one that was whole before stays as it was.
    """

    def __init__(self, folders: Sequence[Path], warn: Callable[[str], None] = lambda _: None) -> None:
        self.folders = list(folders)
        self._warn = warn
        self.refused: dict[Path, str] = {}
        self._files: dict[Path, _File] = {}

    def all(self) -> dict[str, Routine]:
        """Return the routines that can be run, by name."""
        known, files = self._files, dict[Path, _File]()
        for path in (path for folder in self.folders for path in sorted(folder.glob("*.yaml"))):
            try:
                status = path.stat()
            except OSError:  # gone again meanwhile
                continue
            files[path] = self._looked(path, (status.st_mtime_ns, status.st_size), known.get(path))
        self._files = files
        self.refused = {path: file.refused for path, file in files.items() if file.refused}
        found: dict[str, Routine] = {}
        for file in files.values():
            if file.routine is not None:
                found.setdefault(file.routine.name, file.routine)
        return found

    def _looked(self, path: Path, stamp: tuple[int, int], known: _File | None) -> _File:
        """Return what a file holds now."""
        if known is not None and known.stamp == stamp:
            return known
        try:
            return _File(stamp, read(path))
        except ConfigError as error:
            before = known.routine if known is not None else None
            if known is None or known.refused != error.message:
                self._warn(f"{error.message}{'; it stays as it was' if before is not None else ''}")
            return _File(stamp, before, error.message)


def read(file: Path) -> Routine:
    """Read a routine; its name is its file's. Raises ConfigError: file, key, reason; all in ``mistakes``."""
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise ConfigError(f"{file}: is larger than {LARGEST_FILE // 1024} KiB, and no routine")
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{file}: cannot be read: {reason}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file}: holds no routine; write steps: and below it each by its name")
    if content.get("name", file.stem) != file.stem:
        raise ConfigError(f"{file}: name: is not the file's; rename the file, or leave name: out", key="name")
    try:
        return Routine.model_validate({**content, "name": file.stem})
    except RecursionError as error:
        raise ConfigError(f"{file}: cannot be read: it contains itself") from error
    except ValidationError as error:
        mistakes = [f"{file}: {mistake}" for mistake in map(_said, error.errors(include_url=False))]
        key = mistakes[0].removeprefix(f"{file}: ").partition(":")[0]
        raise ConfigError(mistakes[0], key=key, mistakes=mistakes) from error


def _said(error: Mapping[str, Any]) -> str:
    key = ".".join(str(part) for part in error["loc"] if part != "[key]") or "routine"
    return f"{key}: {str(error['msg']).removeprefix('Value error, ')}"
