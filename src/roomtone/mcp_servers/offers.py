"""What a server offers and answers, taken for what it is: written by strangers, and perhaps wrong or endless."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roomtone.core.errors import ToolError
from roomtone.core.tooling import ToolSpec
from roomtone.engines.tools import Result, Traits

if TYPE_CHECKING:
    from roomtone.settings import McpServer

MOST_TOOLS = 64
"""Of one server: every tool's description is read by the model before every answer."""

MOST_LISTED = 1000
"""Of one server, looked at at all."""

LONGEST_NAME = 60
"""Letters of ``server__tool``, as providers of language models take them (64 at most)."""

LONGEST_DESCRIPTION = 600
LARGEST_SCHEMA = 8_000
"""Letters of a tool's parameters as compact JSON, about 2,000 tokens."""

LONGEST_RESULT = 8_000
"""Letters of an answer that a model is given, about 2,000 tokens; of structured data, eight times as many."""

LONGEST_REASON = 400
NAME = re.compile(r"[a-zA-Z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Offer:
    """One tool of a server: ``name`` is the server's own for it."""

    name: str
    spec: ToolSpec
    traits: Traits


def sift(listed: Iterable[Any]) -> list[dict[str, Any]]:
    """Take out of a list of tools, as it came, what has not the shape of one, and of the others what is malformed.

    What a tool's name is on is kept whatever its schema, so that it can be told of; see ``read``.
    """
    found = []
    for tool in list(listed)[:MOST_LISTED]:
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
            continue
        kept: dict[str, Any] = {"name": tool["name"], "inputSchema": _sifted_schema(tool.get("inputSchema"))}
        if isinstance(tool.get("description"), str):
            kept["description"] = tool["description"]
        if isinstance(tool.get("annotations"), dict):
            hints = {key: value for key, value in tool["annotations"].items() if isinstance(value, bool)}
            kept["annotations"] = hints
        found.append(kept)
    return found


NO_SCHEMA = "roomtone.no-schema"
"""Marks parameters that came as something else than a JSON schema of an object."""


def _sifted_schema(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return {"type": "object", NO_SCHEMA: True}
    return schema


def read(server: str, settings: McpServer, host: str | None, listed: Iterable[Any]) -> tuple[list[Offer], list[str]]:
    """Return the tools of a server that can be used, and a line for each thing that is left out.

    ``listed`` are the ``mcp`` package's tools. It takes time: it is done on a thread.
    """
    found: dict[str, Offer] = {}
    left_out: list[str] = []
    for tool in listed:
        if settings.tools is not None and tool.name not in settings.tools:
            continue
        reason = _fault(server, tool, found)
        if reason is None and len(found) >= MOST_TOOLS:
            left_out.append(f"it has more than {MOST_TOOLS} tools; choose some in mcp.{server}.tools")
            break
        if reason is None:
            found[tool.name] = _offer(server, settings, host, tool)
        else:
            left_out.append(f"{tool.name[:LONGEST_NAME]!r}: {reason}")
    wanted = {*(settings.tools or ()), *settings.confirm}
    missing = sorted(wanted - found.keys())
    if missing:
        left_out.append(f"it has no tool {', '.join(missing)}; see mcp.{server}")
    return list(found.values()), left_out


def _fault(server: str, tool: Any, found: Mapping[str, Offer]) -> str | None:
    if not NAME.fullmatch(tool.name):
        return "a name may have letters, digits, _ and - only"
    if len(f"{server}__{tool.name}") > LONGEST_NAME:
        return f"with the server's name it is longer than {LONGEST_NAME} letters"
    if tool.name in found:
        return "it is listed twice"
    return _schema_fault(tool.input_schema)


def _schema_fault(schema: Mapping[str, Any]) -> str | None:
    from jsonschema.exceptions import SchemaError
    from jsonschema.validators import validator_for

    if NO_SCHEMA in schema:
        return "its parameters are no JSON schema of an object"
    try:
        text = json.dumps(schema, separators=(",", ":"))
        if len(text) > LARGEST_SCHEMA:
            return f"its parameters take more than {LARGEST_SCHEMA} letters to describe"
        validator_for(schema).check_schema(schema)
    except SchemaError as error:
        return f"its parameters are no JSON schema ({' '.join(error.message.split())[:100]})"
    except (RecursionError, ValueError, re.error):
        return "its parameters are no JSON schema"
    return "its parameters refer to another document" if _refers_elsewhere(schema) else None


def _refers_elsewhere(part: Any) -> bool:
    if isinstance(part, list):
        return any(_refers_elsewhere(each) for each in part)
    if not isinstance(part, dict):
        return False
    target = part.get("$ref", part.get("$dynamicRef", "#"))
    return (isinstance(target, str) and not target.startswith("#")) or any(map(_refers_elsewhere, part.values()))


def _offer(server: str, settings: McpServer, host: str | None, tool: Any) -> Offer:
    hints = tool.annotations
    reads = bool(hints and hints.read_only_hint)
    traits = Traits(
        changes=not reads,
        confirm=tool.name in settings.confirm or bool(hints and hints.destructive_hint and not reads),
        outside=True,
        host=host,
        timeout_s=settings.timeout_s,
    )
    description = " ".join((tool.description or "").split())
    if len(description) > LONGEST_DESCRIPTION:
        description = description[: LONGEST_DESCRIPTION - 2].rpartition(" ")[0] + " …"
    return Offer(tool.name, ToolSpec(f"{server}.{tool.name}", description, tool.input_schema), traits)


# ------------------------------------------------------------------------------------------- answers


def result_of(answer: Any) -> Result:
    """Return what a call came to, cut where it is too long. Raises ToolError where the tool says it failed."""
    text = "\n".join(part for part in map(_told, answer.content) if part).strip()
    data = answer.structured_content
    written = "" if data is None else json.dumps(data, ensure_ascii=False)
    text = text or written
    if answer.is_error:
        raise ToolError(_cut(text, LONGEST_REASON) or "it failed and did not say why")
    kept = data if len(written) <= 8 * LONGEST_RESULT else None
    return Result(_cut(text, LONGEST_RESULT) or "done", kept)


def _told(part: Any) -> str:
    """Return a part of an answer as text: what is none is named, not passed on."""
    if part.type == "text":
        return str(part.text)
    if part.type == "resource_link":
        return f"[a link to {part.name[:100]}]"
    if part.type == "resource":
        return str(getattr(part.resource, "text", "")) or f"[a file, {part.resource.mime_type or 'of some kind'}]"
    return f"[{'an image' if part.type == 'image' else 'a sound'}, {part.mime_type[:100]}]"


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[:longest]} … [cut: it is {len(text)} letters long]"
