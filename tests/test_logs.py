"""The log: lines for people, or JSON for programs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from roomtone import logs
from roomtone.settings import Log


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_of_text_holds_level_place_and_message() -> None:
    said = io.StringIO()
    logs.set_up(Log(level="warning"), said)
    logging.getLogger("roomtone.ears").warning("the microphone is %s", "gone")
    logging.getLogger("roomtone.ears").info("not asked for")
    assert said.getvalue().endswith(" WARNING roomtone.ears: the microphone is gone\n")
    assert said.getvalue().count("\n") == 1


def test_a_line_of_json_is_one_object_whatever_happened() -> None:
    said = io.StringIO()
    logs.set_up(Log(format="json"), said)
    try:
        raise ValueError("line one\nline two")
    except ValueError:
        logging.getLogger("roomtone.mouth").exception("no sound", extra={"trace": "abc"})
    (line,) = said.getvalue().splitlines()
    told = json.loads(line)
    assert (told["level"], told["logger"], told["message"], told["trace"]) == (
        "error",
        "roomtone.mouth",
        "no sound",
        "abc",
    )
    assert "line two" in told["exception"]
    assert told["at"].endswith("+00:00")
