"""The log: lines for people, or JSON for programs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room, scripted, speaks
from roomtone import logs
from roomtone.core.errors import StoreError
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


def test_a_line_says_which_turn_it_is_of_in_tasks_begun_there_too(run: Run[None]) -> None:
    said = io.StringIO()
    logs.set_up(Log(format="json"), said)
    state = {"state": "thinking", "turn": 3, "session": None}

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            with logs.during(lambda: state):
                task = group.create_task(speak_up())
            logging.getLogger("roomtone").info("outside")
            await task

    async def speak_up() -> None:
        state["state"] = "speaking"
        logging.getLogger("roomtone").info("inside")

    run(scenario())
    outside, inside = map(json.loads, said.getvalue().splitlines())
    assert "turn" not in outside
    assert (inside["turn"], inside["state"]) == (3, "speaking")
    assert "session" not in inside, "what is not known is not said"


def test_a_line_of_text_ends_with_its_turn() -> None:
    said = io.StringIO()
    logs.set_up(Log(), said)
    with logs.during(lambda: {"turn": 3, "state": "thinking"}):
        logging.getLogger("roomtone.mouth").info("no sound")
    assert said.getvalue().endswith(" INFO roomtone.mouth: no sound [turn=3 state=thinking]\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_journal_gets_one_line_a_record_with_its_priority(
    form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        file = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{file.st_dev}:{file.st_ino}")
        logs.set_up(Log(format=form), journal)
        try:
            raise ValueError("line one\nline two")
        except ValueError:
            logging.getLogger("roomtone.mouth").exception("no sound")
        logging.getLogger("roomtone.mouth").warning("two\nlines")
        journal.seek(0)
        failed, warned = journal.read().splitlines()
    assert failed.startswith("<3>")
    assert "line two" in failed
    assert warned.startswith("<4>")
    assert "two\\nlines" in warned


def test_every_line_of_a_turn_that_fails_says_which_turn_it_was(run: Run[None], tmp_path: Path) -> None:
    said = io.StringIO()
    logs.set_up(Log(format="json", level="warning"), said)

    async def scenario() -> str:
        settings = scripted("what time is it", tts={"fail_at": 1})
        async with room(settings, tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            return f"{turn.trace} {turn.session} {turn.turn}"

    trace = run(scenario())
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert lines
    assert {f"{line['trace']} {line['session']} {line['turn']}" for line in lines} == {trace}
    assert {line["state"] for line in lines} <= {"thinking", "speaking"}


def test_a_write_that_fails_says_for_which_turn(run: Run[None], tmp_path: Path) -> None:
    said = io.StringIO()

    async def scenario() -> str:
        async with room(scripted("what time is it"), tmp_path) as rehearsal:
            store = rehearsal.room.store

            async def full(*_: Any, **__: Any) -> None:
                raise StoreError("the disk is full")

            store.save_turn = full  # type: ignore[method-assign]
            logs.set_up(Log(format="json", level="warning"), said)
            [turn] = await speaks(rehearsal)
            return turn.trace

    trace = run(scenario())
    lines = [json.loads(line) for line in said.getvalue().splitlines()]
    assert len(lines) >= 2
    assert {line["trace"] for line in lines} == {trace}
