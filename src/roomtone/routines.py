"""Routines: read from YAML, and run step beside step."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from pydantic import ValidationError

from roomtone.core.errors import ConfigError, RoomtoneError
from roomtone.core.routine import Routine, Step, StepStatus, filled
from roomtone.flow import Stream, task_group

log = logging.getLogger(__name__)

SHIPPED = Path(__file__).parent / "mind" / "routines"
"""The routines that come with Roomtone."""

WORDS_AHEAD = 4096
"""Words that a step may be ahead of what is being said: none ever waits for the one before it to be spoken."""


class Deeds(Protocol):
    """What the steps of a routine are done with."""

    def think(self, persona: str | None, text: str, *, outside: bool = False) -> AsyncIterator[str]:
        """Let a persona's model answer a text, which strangers may have written some of; yield its words.

        Raises RoomtoneError.
        """

    async def use(self, persona: str | None, tool: str, arguments: Mapping[str, Any]) -> str:
        """Use a tool under a persona's permissions; return its result. Raises RoomtoneError."""


@dataclass(slots=True)
class Doing:
    """A step while a routine runs: what it came to, why it failed, and how long it took."""

    step: Step
    status: StepStatus = StepStatus.PENDING
    result: str = ""
    error: str = ""
    took_s: float = 0.0
    over: asyncio.Event = field(default_factory=asyncio.Event)


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

    async def run(self, put: Callable[[str], Any]) -> None:
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

    async def _tell(self, put: Callable[[str], Any]) -> None:
        first = True
        for words in self._words.values():
            begun = False
            async for word in words:
                await put(word if begun or first else f" {word}")
                begun, first = True, False

    async def _do(self, id_: str) -> None:
        doing = self.steps[id_]
        try:
            for need in doing.step.after:
                await self.steps[need].over.wait()
            missing = [need for need in doing.step.after if not self.steps[need].status.useful]
            if missing and doing.step.prompt is None:
                await self._ended(id_, StepStatus.SKIPPED, f"{missing[0]} came to nothing")
                return
            async with self._places:
                self._become(id_, StepStatus.RUNNING)
                await self._try(id_)
        finally:
            doing.over.set()
            if id_ in self._words:
                await self._words[id_].fed(_nothing())

    async def _try(self, id_: str) -> None:
        doing, begun = self.steps[id_], time.monotonic()
        try:
            async with asyncio.timeout(doing.step.timeout_s):
                doing.result = await self._done(id_, doing.step)
            status, error = StepStatus.DONE, ""
        except TimeoutError:
            status, error = StepStatus.LATE, f"took longer than {doing.step.timeout_s:g} s"
        except RoomtoneError as failure:
            status, error = StepStatus.FAILED, failure.message
        except Exception as failure:
            log.exception("step %s of %s failed", id_, self.routine.name)
            status, error = StepStatus.FAILED, str(failure)
        doing.took_s = time.monotonic() - begun
        await self._ended(id_, status, error)

    def _results(self) -> dict[str, str]:
        return {id_: doing.result for id_, doing in self.steps.items() if doing.status.useful}

    async def _done(self, id_: str, step: Step) -> str:
        results = self._results()
        if step.wait is not None:
            await asyncio.sleep(step.wait)
            return ""
        if step.tool is not None:
            return await self._deeds.use(step.persona, step.tool, filled(step.arguments, results))
        if step.say is not None:
            said: str = filled(step.say, results)
            await self._words[id_].put(said)
            return said
        said = ""
        async for word in self._deeds.think(step.persona, filled(step.prompt, results), outside=bool(step.after)):
            said += word
            if id_ in self._words:
                await self._words[id_].put(word)
        return said

    async def _ended(self, id_: str, status: StepStatus, error: str) -> None:
        """Note how a step ended; where it came to nothing, its fallback stands in, and is said if it was to be."""
        doing = self.steps[id_]
        if not status.useful and doing.step.fallback is not None:
            doing.result, status = " ".join(filled(doing.step.fallback, self._results()).split()), StepStatus.FALLBACK
            if id_ in self._words and doing.result:
                await self._words[id_].put(doing.result)
        self._become(id_, status, error)

    def _become(self, id_: str, status: StepStatus, error: str = "") -> None:
        doing = self.steps[id_]
        doing.status, doing.error = status, error or doing.error
        self._on_step(id_, doing)


async def _nothing() -> None:
    pass


class Routines:
    """The routines of some folders, the household's first: a name that stands in several is the first one's.

    A file is read again when it has changed. ``refused`` has the reason for each that cannot be used.
    """

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders
        self.refused: dict[Path, str] = {}

    def all(self) -> dict[str, Routine]:
        """Return the routines that can be run, by name."""
        found: dict[str, Routine] = {}
        self.refused = {}
        for file in (file for folder in self.folders for file in sorted(folder.glob("*.yaml"))):
            if file.stem in found:
                continue
            try:
                found[file.stem] = read(file)
            except ConfigError as error:
                self.refused[file] = error.message
        return found


def read(file: Path) -> Routine:
    """Read a routine; its name is its file's. Raises ConfigError with file, key and reason."""
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{file}: cannot be read: {reason}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"{file}: holds no routine; write name: and steps:")
    try:
        return Routine.model_validate({"name": file.stem, **content})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "routine"
        raise ConfigError(f"{file}: {key}: {first['msg'].removeprefix('Value error, ')}", key=key) from error
