"""What a model writes and what strangers answer, made safe to keep, to tell and to say."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from roomtone.core.errors import ToolError
from roomtone.core.tooling import ToolSpec
from roomtone.mind.numbers import SAYABLE
from roomtone.mind.phrases import Phrases

LONGEST = 20_000
"""Characters of a call's arguments."""

SHOWN = 300
"""Characters of arguments that cannot be read, as their row keeps them; and of what a person is asked."""

CUT = " [cut: {} more characters]"


def read(written: str) -> tuple[dict[str, Any], str]:
    """Return the arguments that a model wrote, and in a line what is wrong with them, "" where nothing is.

    None at all are an empty object. What is none is kept as ``{"written": ...}``.
    """
    if len(written) > LONGEST:
        return {"written": plain(written, SHOWN)}, f"arguments longer than {LONGEST} characters"
    try:
        arguments = json.loads(written, parse_constant=_no_number) if written.strip() else {}
        json.dumps(arguments, ensure_ascii=False).encode()  # half a surrogate can be kept nowhere
    except (ValueError, RecursionError) as error:
        return {"written": plain(written, SHOWN)}, f"the arguments are no JSON: {plain(str(error), SHOWN)}"
    if arguments is None:
        return {}, ""
    if not isinstance(arguments, dict):
        return {"written": plain(written, SHOWN)}, "the arguments must be a JSON object"
    return arguments, ""


def _no_number(written: str) -> Any:
    raise ValueError(f"{written} is no number")


def fitting(spec: ToolSpec, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments if they fit a tool's JSON schema. Raises ToolError, a line.

    A server's patterns are its own to check: a bad one may take a second for every letter. Nothing is fetched.
    """
    try:
        from jsonschema import Draft202012Validator, validators  # comes with mcp, as such tools do
        from referencing import Registry
    except ImportError:
        return _with_its_keys(spec, arguments)
    patient = {"pattern": None, "patternProperties": None}
    validator = validators.extend(Draft202012Validator, patient)(dict(spec.parameters), registry=Registry())
    try:
        wrong = next(validator.iter_errors(arguments), None)
    except Exception as error:  # a stranger's schema goes wrong in more ways than the library has names for
        raise ToolError(f"its schema cannot be read: {plain(str(error), SHOWN)}") from error
    if wrong is not None:
        where = ".".join(str(each) for each in wrong.absolute_path)
        raise ToolError(plain(f"{where}: {wrong.message}" if where else wrong.message, SHOWN))
    return arguments


def _with_its_keys(spec: ToolSpec, arguments: dict[str, Any]) -> dict[str, Any]:
    missing = [key for key in spec.parameters.get("required", ()) if key not in arguments]
    if missing:
        raise ToolError(f"{', '.join(missing)}: required")
    return arguments


def plain(text: str, most: int) -> str:
    """Return a text without control characters and cut to some characters, with a mark that says so."""
    whole = text[: 2 * most]
    kept = "".join(each for each in whole if each in "\n\t" or unicodedata.category(each)[0] != "C")
    kept = re.sub(r"\n{3,}", "\n\n", re.sub(r"[^\S\n]+", " ", kept)).strip()
    left = len(text) - len(whole) + len(kept) - most
    return kept[:most] + CUT.format(left) if left > 0 else kept


def question(spec: ToolSpec, arguments: Mapping[str, Any], whole: Mapping[str, Any], phrases: Phrases) -> str:
    """Return what a person is asked before a tool is run: exactly what would be done.

    ``arguments`` are as the model wrote them, ``whole`` with what it left out.
    """
    if f"tool_asks.{spec.name}" in phrases.texts:
        return said("tool_asks", spec.name, whole, phrases)
    what = re.split(r"(?<=[.!?])\s|\n", plain(spec.description, SHOWN) or spec.name)[0].rstrip(".!?")
    given = [f"{key.replace('_', ' ')}: {_in_words(value, phrases)}" for key, value in arguments.items()]
    key = "tool_asks_with" if given else "tool_asks"
    what = what[:1].lower() + what[1:]
    return phrases.say(key, what=what, given=plain(phrases.joined(given) if given else "", SHOWN))


def said(key: str, tool: str, arguments: Mapping[str, Any], phrases: Phrases) -> str:
    """Return the sentence for a tool, as ``tool_undone.volume.set``, or else the general one of the key."""
    own = f"{key}.{tool}"
    values = {name: plain(_in_words(value, phrases), SHOWN) for name, value in arguments.items()}
    return phrases.say(own if own in phrases.texts else key, **values)


def _in_words(value: Any, phrases: Phrases) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < SAYABLE:
        return phrases.number(value)
    if isinstance(value, list | tuple) and value:
        return phrases.joined([_in_words(each, phrases) for each in value])
    return value.rstrip(" .!?") if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
