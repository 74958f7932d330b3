"""A routine: steps that need each other, as data. What is wrong with one is told by the key that is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from roomtone.core.dialog import Noun

STEPS = 40
"""Steps of one routine, at most: more is a program."""

DEEDS = ("say", "prompt", "tool", "wait")

PLACEHOLDER = re.compile(r"\{\{\s*([a-z0-9_-]+)\s*\}\}")
"""``{{weather}}`` stands for what the step of that name came to."""

ODD = re.compile(r"\{\{.{0,20}")

UNKNOWN = "(this could not be found out)"
"""What a prompt reads where a step that it needs came to nothing."""


class StepStatus(StrEnum):
    """How a step stands; from DONE on, it is over."""

    PENDING = "pending"
    RUNNING = "running"
    DONE = "done"
    FALLBACK = "fallback"
    FAILED = "failed"
    LATE = "late"
    SKIPPED = "skipped"

    @property
    def over(self) -> bool:
        """Whether it stays as it is."""
        return self not in (StepStatus.PENDING, StepStatus.RUNNING)

    @property
    def useful(self) -> bool:
        """Whether it came to something."""
        return self in (StepStatus.DONE, StepStatus.FALLBACK)


StepId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,40}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4000)]


class Step(Noun):
    """One step: it says a text, asks a model, uses a tool, or waits some seconds.

    ``persona`` is who is asked or uses the tool, another than who tells the routine. ``needs`` are the steps it waits
    for, beside those whose results stand in its texts. ``fallback`` is what it comes to where it fails or takes
    longer than ``timeout_s`` seconds; without one, steps that need it are left out, but for prompts.
    """

    say: Text | None = None
    prompt: Text | None = None
    tool: Annotated[str, StringConstraints(pattern=r"^[\w-]+(\.[\w-]+)*$", max_length=80)] | None = None
    wait: float | None = Field(None, ge=0, le=3600)
    persona: str | None = Field(None, pattern=r"^[a-z0-9_-]+$")
    arguments: dict[str, Any] = Field(default_factory=dict)
    needs: tuple[StepId, ...] = ()
    timeout_s: float = Field(30.0, gt=0, le=600)
    fallback: str | None = Field(None, max_length=4000)

    @property
    def deed(self) -> str:
        """Which of say, prompt, tool and wait it does."""
        return next(deed for deed in DEEDS if getattr(self, deed) is not None)

    @property
    def works(self) -> bool:
        """Whether somebody has something to do for it: it takes a place among the parallel ones, and has its time."""
        return self.deed in ("prompt", "tool")

    @property
    def after(self) -> tuple[str, ...]:
        """All steps that must be over before it begins, each once."""
        named = (
            found for text in _texts([self.say, self.prompt, self.arguments]) for found in PLACEHOLDER.findall(text)
        )
        return tuple(dict.fromkeys((*self.needs, *named)))

    @model_validator(mode="after")
    def _does_one_thing(self) -> Step:
        done = [deed for deed in DEEDS if getattr(self, deed) is not None]
        if len(done) != 1:
            raise ValueError(
                f"a step does one of {', '.join(DEEDS)}" + (f", not {' and '.join(done)}" if done else "")
            )
        if self.arguments and self.tool is None:
            raise ValueError("arguments: only a tool takes them")
        return self


class Routine(Noun):
    """Steps by id. ``phrases`` are what people say to start it; ``persona`` tells it, else whoever speaks."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,40}$")]
    description: str = Field("", max_length=500)
    phrases: tuple[Annotated[str, StringConstraints(min_length=1, max_length=100)], ...] = ()
    persona: str | None = Field(None, pattern=r"^[a-z0-9_-]+$")
    max_parallel: int | None = Field(None, ge=1, le=16)
    steps: Annotated[dict[StepId, Step], AfterValidator(lambda steps: _sound(steps))] = Field(min_length=1)

    def order(self) -> list[str]:
        """Return the steps so that each comes behind all that it needs, else as they are written."""
        places = {id_: place for place, id_ in enumerate(self.steps)}
        sorter = TopologicalSorter({id_: step.after for id_, step in self.steps.items()})
        sorter.prepare()
        found: list[str] = []
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=places.__getitem__)
            found += ready
            sorter.done(*ready)
        return found

    def told(self) -> list[str]:
        """Return the steps whose words are spoken, in order: what is to be said, and prompts that no step needs."""
        needed = {need for step in self.steps.values() for need in step.after}
        steps = self.steps
        return [id_ for id_ in self.order() if steps[id_].say or (steps[id_].prompt and id_ not in needed)]


def _sound(steps: Mapping[str, Step]) -> Mapping[str, Step]:
    if len(steps) > STEPS:
        raise ValueError(f"has {len(steps)} steps; {STEPS} is the most")
    for id_, step in steps.items():
        for need in step.after:
            if need not in steps:
                raise ValueError(f"{id_} needs {need}, and there is no such step")
        for named in PLACEHOLDER.findall(step.fallback or ""):
            if named not in step.after:
                raise ValueError(f"the fallback of {id_} tells {{{{{named}}}}}, which the step does not need")
        for text in _texts([step.say, step.prompt, step.fallback, step.arguments]):
            if odd := ODD.search(PLACEHOLDER.sub("", text)):
                raise ValueError(f"{id_} has {odd[0]}, which names no step; write it as in {{{{weather}}}}")
    try:
        TopologicalSorter({id_: step.after for id_, step in steps.items()}).prepare()
    except CycleError as error:
        around = " -> ".join(reversed(error.args[1]))
        raise ValueError(f"these steps wait for each other: {around}") from None
    return steps


def filled(value: Any, results: Mapping[str, str], unknown: str = UNKNOWN) -> Any:
    """Return a text, or all texts within lists and mappings, with ``{{step}}`` replaced by its result."""
    if isinstance(value, str):
        return PLACEHOLDER.sub(lambda found: results.get(found[1], unknown), value)
    if isinstance(value, Mapping):
        return {key: filled(inner, results, unknown) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [filled(inner, results, unknown) for inner in value]
    return value


def _texts(values: Iterable[Any]) -> list[str]:
    found: list[str] = []
    for value in values:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, Mapping):
            found += _texts(value.values())
        elif isinstance(value, (list, tuple)):
            found += _texts(value)
    return found
