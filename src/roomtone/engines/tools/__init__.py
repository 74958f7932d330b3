"""The tool seam: parameters described by pydantic or a JSON schema in, a result or ToolError out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from roomtone.core.tooling import ToolSpec

AUTO: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool found or did, as a model reads it; ``data`` is the same for programs.

    ``undo`` is the call that takes it back: the name of a tool and its arguments.
    """

    text: str
    data: Any = None
    undo: tuple[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Traits:
    """What a tool is like. ``changes``: it does something in the house. ``confirm``: only after a yes.

    ``outside``: its results were written by strangers, and are never orders. ``host`` is where its arguments go, None
    where they stay on this machine. ``timeout_s`` bounds one run.
    """

    changes: bool = False
    confirm: bool = False
    outside: bool = False
    host: str | None = None
    timeout_s: float = 10.0


class Tool(Protocol):
    """Something a persona can do: named ``family.verb``, as ``timer.set`` or ``weather.today``."""

    @property
    def spec(self) -> ToolSpec:
        """How a model is told of it."""

    @property
    def traits(self) -> Traits:
        """What it is like."""

    async def run(self, arguments: Mapping[str, Any], house: Any) -> Result:
        """Do it with arguments that were checked; ``house`` is a ``mind.Household``.

        Raises ToolError, in words for the model, where it cannot be done.
        """
