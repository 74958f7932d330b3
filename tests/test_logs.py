"""The log: lines for people, or JSON for programs."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


class Journald:
    """The journal's end of its socket, and a stream that is the journal's by its inode."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "socket"
        self.stream = (folder / "stderr").open("w+")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.settimeout(5)

    def record(self) -> dict[str, str]:
        """Return the fields of the next record, as the protocol has them."""
        data, found = self._socket.recv(1 << 20), {}
        while data:
            name, _, rest = data.partition(b"\n")
            length = int.from_bytes(rest[:8], "little")
            assert rest[8 + length : 9 + length] == b"\n"
            found[name.decode("ascii")] = rest[8 : 8 + length].decode("utf-8", "replace")
            data = rest[9 + length :]
        return found

    def written(self) -> str:
        self.stream.seek(0)
        return self.stream.read()

    def go(self) -> None:
        self._socket.close()
        self.path.unlink(missing_ok=True)


@pytest.fixture
def journald(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journald]:
    opened = Journald(tmp_path)
    file = os.fstat(opened.stream.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{file.st_dev}:{file.st_ino}")
    logs.set_up(Log(), opened.stream, opened.path)
    yield opened
    opened.go()
    logs.set_up(Log(), io.StringIO())
    opened.stream.close()


def test_a_record_in_the_journal_says_of_which_turn_it_is_in_fields(journald: Journald) -> None:
    with logs.during(lambda: {"turn": 3, "session": "abc", "trace": "t1", "state": "thinking"}):
        logging.getLogger("roomtone.mouth").warning("no sound:\n%s", "two lines", extra={"engine-name": "piper"})
    told = journald.record()
    assert told["MESSAGE"] == "no sound:\ntwo lines"
    assert (told["PRIORITY"], told["SYSLOG_IDENTIFIER"]) == ("4", "roomtone")
    assert (told["ROOMTONE_TURN"], told["ROOMTONE_SESSION"], told["ROOMTONE_STATE"]) == ("3", "abc", "thinking")
    assert (told["ROOMTONE_TRACE"], told["ROOMTONE_LOGGER"]) == ("t1", "roomtone.mouth")
    assert told["ROOMTONE_ENGINE_NAME"] == "piper"
    assert told["CODE_FILE"].endswith("test_logs.py")
    assert journald.written() == "", "nothing is said twice"


def test_a_traceback_in_the_journal_is_one_record(journald: Journald) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("roomtone").exception("no sound")
    told = journald.record()
    assert told["MESSAGE"].startswith("no sound\nTraceback")
    assert told["MESSAGE"].endswith("ValueError: broken")
    assert told["PRIORITY"] == "3"


def test_a_record_that_is_endless_is_cut_and_arrives(journald: Journald) -> None:
    logging.getLogger("roomtone").warning("%s", "ä" * 1_000_000)
    assert 40_000 < len(journald.record()["MESSAGE"].encode()) < 60_000


def test_where_the_journal_does_not_answer_the_line_goes_to_stderr(journald: Journald) -> None:
    journald.go()
    logging.getLogger("roomtone").warning("no sound")
    assert journald.written().startswith("<4>")
    assert "no sound" in journald.written()


@given(st.dictionaries(st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.text(), max_size=5))
def test_what_stands_in_a_field_never_becomes_another(told: dict[str, str]) -> None:
    data, found = logs.datagram(told), {}
    while data:
        name, _, rest = data.partition(b"\n")
        length = int.from_bytes(rest[:8], "little")
        found[name.decode()] = rest[8 : 8 + length]
        data = rest[9 + length :]
    assert found == {name: value.encode("utf-8", "replace") for name, value in told.items()}


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_journal_that_takes_lines_alone_gets_one_a_record_with_its_priority(
    form: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (tmp_path / "journal").open("w+") as journal:
        file = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{file.st_dev}:{file.st_ino}")
        logs.set_up(Log(format=form), journal, tmp_path / "no socket")
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
