"""Print the README's list of configuration keys from the settings, or write it into the README (--write)."""

from __future__ import annotations

import inspect
import json
import sys
import textwrap
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined, to_jsonable_python

from readme_block import write
from roomtone import engines
from roomtone.settings import OPTIONAL, SEAMS, Settings

NAME = "keys"

OF_THE_MACHINE = {"id": "the machine's name", "state_dir": "see below", "time_zone": "the machine's"}
WIDTH = 116


def default(name: str, field: Any) -> str:
    """Write a field's default as YAML."""
    if name in OF_THE_MACHINE:
        return f"# {OF_THE_MACHINE[name]}"
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "# required"
    value = to_jsonable_python(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value) if isinstance(value, str) and value else json.dumps(value)


def comment(model: type[BaseModel], indent: str) -> list[str]:
    """Return what a section's docstring says, as YAML comments."""
    text = " ".join(inspect.getdoc(model).split()).replace("``", "")
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def section(model: type[BaseModel], indent: str) -> list[str]:
    """Return a section's keys with their defaults."""
    return [f"{indent}{name}: {default(name, field)}" for name, field in model.model_fields.items()]


def engine_keys(seam: str) -> list[str]:
    """Return, as comments, the keys that belong to one engine of a seam."""
    lines = []
    for name in engines.names(seam):
        fields = engines.load(seam, name).Settings.model_fields
        own = [f"{key}: {default(key, field)}" for key, field in fields.items() if key != "language"]
        if own:
            lines += textwrap.wrap(
                f"{name}: " + ", ".join(own), WIDTH, initial_indent="  # ", subsequent_indent="  #   "
            )
    return lines


def listing() -> str:
    """Return the whole list as a YAML block."""
    lines = ["```yaml"]
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if not (inspect.isclass(kind) and issubclass(kind, BaseModel)):
            lines.append(f"{name}: {default(name, field)}")
            continue
        lines += [f"{name}:", *comment(kind, "  "), *section(kind, "  ")]
        if name in (*SEAMS, *OPTIONAL):
            lines += engine_keys(name)
    return "\n".join([*lines, "```"])


if __name__ == "__main__":
    if "--write" in sys.argv:
        write(NAME, listing())
    else:
        print(listing())
