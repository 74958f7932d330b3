"""A disk that takes nothing: the room goes on in memory with what can be read, and says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import Run
from rooms import room, scripted
from roomtone import refuge
from roomtone.core.dialog import Source
from roomtone.core.signals import Prompt
from roomtone.store import FILE_NAME

READ_ONLY = "the card cannot be written (Read-only file system)"
BOUND_S = 60.0


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every state folder for one on a card that is read-only."""
    monkeypatch.setattr(refuge, "hindrance", lambda _: READ_ONLY)


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


def test_a_folder_that_can_be_written_is_made_and_used(tmp_path: Path) -> None:
    with refuge.instead_of(tmp_path / "state") as used:
        assert used == tmp_path / "state"
        assert list(used.iterdir()) == []
        assert refuge.trouble(used) is None


def test_what_hinders_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = refuge.hindrance(tmp_path / "file" / "state")
    assert told == f"{tmp_path}/file/state cannot be written (Not a directory)"


@pytest.mark.usefixtures("read_only")
def test_timers_and_models_of_a_card_that_is_read_only_are_there_and_the_card_stays_as_it_was(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            await rehearsal.room.conversation.answer(Prompt("set an alarm for seven", Source.CLI))
        (tmp_path / "models").mkdir()
        (tmp_path / "models" / "voice").touch()
        before = files(tmp_path)
        with refuge.instead_of(tmp_path, {}) as used:
            assert (used / "models" / "voice").exists()
            async with room(scripted(), used) as rehearsal:
                turn = await rehearsal.room.conversation.answer(Prompt("what alarms do i have", Source.CLI))
                assert turn.said.startswith("Your alarm is set for seven")
                assert rehearsal.room.health()["store"] == READ_ONLY
        assert not used.exists()
        assert files(tmp_path) == before

    run(scenario())


@pytest.mark.usefixtures("read_only")
def test_a_store_that_cannot_be_read_either_gives_way_to_a_new_one(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with refuge.instead_of(tmp_path, {}) as used:
        assert not (used / FILE_NAME).exists()


def test_a_daemon_whose_folder_cannot_be_made_says_so_aloud_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    config = {"state_dir": "/proc/nowhere/roomtone", "audio": {"engine": "wav"}, "tts": {"engine": "tone"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "roomtone.cli", "run", "--json", "--config", str(tmp_path / "config.yaml")]
    env = os.environ | {"RUNTIME_DIRECTORY": str(tmp_path / "run")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as daemon:
        assert daemon.stdout is not None
        try:
            said = json.loads(daemon.stdout.readline())["said"]
        finally:
            daemon.send_signal(signal.SIGTERM)
            _, log = daemon.communicate(timeout=BOUND_S)
    assert said == "I can't write to my disk, so I may forget this."
    assert daemon.returncode == 0
    assert log.count("cannot be written") == 1
    assert "Traceback" not in log
    assert [file.name for file in (tmp_path / "run").iterdir() if file.name.startswith("roomtone-")] == []
