"""What a tool of Roomtone's own is made of: parameters that check themselves, and what it does in the house."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from roomtone.core.dialog import Noun
from roomtone.core.errors import ToolError
from roomtone.core.tooling import ToolSpec
from roomtone.engines.tools import Result, Traits
from roomtone.mind import Household

P = TypeVar("P", bound=Noun)

UNTOLD = ("title", "default", "additionalProperties", "minLength", "maxLength", "minItems", "maxItems")
"""What of a schema a model need not read: every word of it is prefilled, on a Pi with some ten words a second."""


class Nothing(Noun):
    """No parameters."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """A tool of Roomtone's own. One that is not ``offered`` can be called all the same.

    ``elsewhere``: it is offered where there are other rooms.
    """

    spec: ToolSpec
    traits: Traits
    parameters: type[Noun]
    do: Callable[[Any, Household], Awaitable[Result]]
    offered: bool = True
    elsewhere: bool = False

    def checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments as the tool takes them, what was left out filled in. Raises ToolError, a line."""
        try:
            return self.parameters.model_validate(arguments).model_dump(mode="json")
        except ValidationError as error:
            raise ToolError("; ".join(wrong(each) for each in error.errors(include_url=False))) from error

    async def run(self, arguments: Mapping[str, Any], house: Household) -> Result:
        """Do it. Raises ToolError where it cannot be done."""
        return await self.do(self.parameters.model_validate(arguments), house)


def built_in(
    name: str,
    description: str,
    parameters: type[P] | type[Nothing] = Nothing,
    *,
    changes: bool = False,
    offered: bool = True,
    elsewhere: bool = False,
) -> Callable[[Callable[[P, Household], Awaitable[Result]]], BuiltIn]:
    """Make a tool of the function below."""

    def made(do: Callable[[P, Household], Awaitable[Result]]) -> BuiltIn:
        spec = ToolSpec(name, description, schema(parameters))
        return BuiltIn(spec, Traits(changes=changes), parameters, do, offered, elsewhere)

    return made


def schema(parameters: type[Noun]) -> dict[str, Any]:
    """Return the JSON schema of parameters, as short as a model can do with."""
    told: dict[str, Any] = {"type": "object", "properties": {}, **_told(parameters.model_json_schema())}
    return {key: value for key, value in told.items() if key != "description"}  # a docstring is for us


def _told(part: Any) -> Any:
    if isinstance(part, list):
        return [_told(each) for each in part]
    if not isinstance(part, dict):
        return part
    shown = {key: value for key, value in part.items() if key not in UNTOLD}
    named = {name: _told(value) for name, value in shown.pop("properties", {}).items()}
    return {**{key: _told(value) for key, value in shown.items()}, **({"properties": named} if named else {})}


def wrong(error: Mapping[str, Any]) -> str:
    """Return what pydantic found wrong, as a line for a model."""
    where = ".".join(str(each) for each in error["loc"])
    what = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
