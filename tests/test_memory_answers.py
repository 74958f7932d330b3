"""What is remembered is listed, searched, added to and forgotten by whoever asks the daemon or the command."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from remembering import remembering, told
from rooms import room, scripted, speaks
from roomtone import cli
from roomtone.core.errors import UsageError
from roomtone.memories import StoreMemory
from roomtone.memories.answers import answer
from roomtone.store import FILE_NAME
from test_daemon import running


async def asked(memory: StoreMemory, do: str, **request: Any) -> list[dict[str, Any]]:
    return [event async for event in answer({"command": "memory", "do": do, **request}, memory)]


def test_an_asker_lists_searches_adds_and_forgets(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            [added, count] = await asked(memory, "add", text=" the cat is called Minka ", persona="chef", days=2)
            assert (added["kept"]["text"], added["kept"]["persona"], count) == (
                "the cat is called Minka",
                "chef",
                {"result": 1},
            )
            assert added["kept"]["expires"] is not None
            await asked(memory, "add", text="the dog is called Rex")
            assert [event["fact"]["text"] for event in (await asked(memory, "list"))[:-1]] == [
                "the dog is called Rex",
                "the cat is called Minka",
            ]
            assert len(await asked(memory, "list", persona="companion")) == 2
            assert len(await asked(memory, "search", text="the cat", persona="companion")) == 1
            assert len(await asked(memory, "search", text="what is the cat called")) == 2
            gone = await asked(memory, "forget", ids=[added["kept"]["id"][:8], "nosuch"])
            assert [*gone[0], *gone[1]] == ["forgotten", "unknown"]
            assert gone[-1] == {"result": 1}
            await asked(memory, "add", text="the chef is called Bob", persona="chef")
            assert (await asked(memory, "forget", all=True, persona="chef"))[-1] == {"result": 1}
            assert (await asked(memory, "forget", all=True))[-1] == {"result": 1}
            assert await asked(memory, "list") == [{"result": 0}]

    run(scenario())


@pytest.mark.parametrize(
    "request_",
    [
        {"do": "steal"},
        {"do": None},
        {"do": "add"},
        {"do": "add", "text": "  "},
        {"do": "add", "text": 7},
        {"do": "add", "text": "x" * 2001},
        {"do": "add", "text": "x", "days": 0},
        {"do": "add", "text": "x", "days": "soon"},
        {"do": "add", "text": "x", "days": float("nan")},
        {"do": "add", "text": "x", "persona": ""},
        {"do": "add", "text": "x", "persona": ["chef"]},
        {"do": "search"},
        {"do": "search", "text": ""},
        {"do": "list", "limit": 0},
        {"do": "list", "limit": "many"},
        {"do": "forget"},
        {"do": "forget", "ids": []},
        {"do": "forget", "ids": "abcd"},
        {"do": "forget", "ids": [7]},
    ],
)
def test_a_wrong_request_is_told_in_a_line(run: Run[None], tmp_path: Path, request_: dict[str, Any]) -> None:
    async def scenario() -> None:
        async with remembering(tmp_path) as (memory, _):
            await told(memory, "the cat is called Minka")
            with pytest.raises(UsageError) as told_:
                await asked(memory, **request_)
            assert "\n" not in told_.value.message
            assert await memory.count() == 1

    run(scenario())


# --------------------------------------------------------------------------------------------- in a house


def test_what_is_told_aloud_is_known_after_a_restart(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with room(scripted("remember that my cat is called minka"), tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            assert (turn.intent, turn.said) == ("memory.keep", "I'll remember that your cat is called minka.")
        async with room(scripted("what do you know about me", "forget about minka"), tmp_path) as rehearsal:
            [turn] = await speaks(rehearsal)
            assert turn.said == "I know one thing: your cat is called minka."
            [turn] = await speaks(rehearsal)
            assert turn.said == "Forgotten: your cat is called minka."
            assert rehearsal.room.feed.tallies["memory.forgotten"].count == 1
        assert b"minka" not in remembered(tmp_path)

    run(scenario())


def remembered(folder: Path) -> bytes:
    """Return the bytes of what is remembered on the disk; the conversation is another matter, and keeps the name."""
    connection = sqlite3.connect(folder / FILE_NAME)
    held = b"".join(str(row).encode() for row in connection.execute("SELECT * FROM memories"))
    connection.close()
    return held


def test_the_command_asks_the_daemon_and_does_without_it(tmp_path: Path) -> None:
    with running(tmp_path, {"audio": {"engine": "wav"}, "tts": {"engine": "tone"}}) as daemon:
        daemon.until_ready()
        assert (
            "remembered: the cat is called Minka" in daemon.command("memory", "add", "the cat is called Minka").stdout
        )
        assert "your" not in daemon.command("ask", "what do you know about me").stdout
        assert "the cat is called Minka" in daemon.command("ask", "what do you remember about the cat").stdout
        assert daemon.command("memory", "forget", "abcd").returncode == 1
        assert daemon.stop() == 0
    alone = daemon.command("memory", "search", "what is the cat called", "--json")
    [line] = alone.stdout.splitlines()
    assert json.loads(line)["fact"]["text"] == "the cat is called Minka"
    assert daemon.command("memory", "forget", "--all", "--yes").returncode == 0
    assert daemon.command("memory", "list").stdout == "Nothing is remembered.\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["forget"], "give ids as roomtone memory list shows them, or --all"),
        (["forget", "abcd", "--all"], "give ids as roomtone memory list shows them, or --all"),
        (["forget", "abcd", "--persona", "chef"], "--persona goes with --all; an id says whose it is"),
        (["add", " "], "text: give a text, in quotes"),
        (["add", "x", "--days", "-1"], "days: give a number of days until it expires, as in 30"),
        (["search", ""], "text: give a text, in quotes"),
    ],
)
def test_a_wrong_command_is_told_in_a_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str], told: str
) -> None:
    assert cli.main(["memory", *words, "--state-dir", str(tmp_path)]) == 2
    assert capsys.readouterr() == ("", f"roomtone: {told}\n")


def test_all_is_forgotten_only_when_that_was_confirmed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--state-dir", str(tmp_path)]
    assert cli.main(["memory", "add", "the cat is called Minka", *where]) == 0
    command = [sys.executable, "-m", "roomtone.cli", "memory", "forget", "--all", *where]
    asked = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "add --yes" in asked.stderr
    capsys.readouterr()
    assert cli.main(["memory", "list", *where]) == 0
    assert "the cat is called Minka" in capsys.readouterr().out
