"""The daemon as a process: it starts, is talked to, is asked things from outside, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import Run
from rooms import HELP
from roomtone.control import ask_daemon
from roomtone.core.errors import DaemonGone
from roomtone.core.sound import Audio, encode_wav
from roomtone.store import FILE_NAME
from speech import said

BOUND_S = 60.0
"""Longest that anything here may take before it counts as lost; nothing is timed."""


class Daemon:
    """A running ``roomtone run --json``."""

    def __init__(self, folder: Path, config: dict[str, Any], output: str | None = None) -> None:
        self.state_dir = folder / "state"
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        self.where = ["--config", str(folder / "config.yaml"), "--state-dir", str(self.state_dir)]
        command = [sys.executable, "-m", "roomtone.cli", "run", "--json", *self.where]
        with open(output, "w") if output else nullcontext() as stdout:
            self.process = subprocess.Popen(
                command, stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )

    def turn(self) -> dict[str, Any]:
        """Wait for the next turn that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        return dict(json.loads(line))

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another ``roomtone`` command on the same state."""
        command = [sys.executable, "-m", "roomtone.cli", *words, *self.where]
        return subprocess.run(command, capture_output=True, text=True, timeout=BOUND_S, check=False)

    def until_ready(self) -> None:
        """Wait until it answers on its socket."""
        deadline = time.monotonic() + BOUND_S
        while asyncio.run(state(self)) == "":
            assert self.process.poll() is None
            assert time.monotonic() < deadline

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code; ``errors`` is then what it wrote on stderr."""
        self.process.send_signal(how)
        _, self.errors = self.process.communicate(timeout=BOUND_S)
        return self.process.returncode


@contextmanager
def running(folder: Path, config: dict[str, Any]) -> Iterator[Daemon]:
    """Run a daemon that does not outlive the test."""
    daemon = Daemon(folder, config)
    try:
        yield daemon
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.communicate()


def descendants(pid: int) -> set[int]:
    """Return the processes below one."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child) for child in children} | {below for child in children for below in descendants(int(child))}


@pytest.fixture
def visited(tmp_path: Path, run_in_real_time: Run[Any]) -> Iterator[Daemon]:
    """Run a daemon in a simulated room, where somebody asks for the time after a second."""
    wav = tmp_path / "visitor.wav"
    wav.write_bytes(encode_wav(run_in_real_time(said("what time is it", "en-us+m3", lead_s=0, tail_s=0))))
    visit = {"wav": str(wav), "at_s": 1.0, "distance_m": 1.0}
    audio = {"engine": "sim", "visits": [visit]}
    with running(tmp_path, {"listen": {"mode": "open"}, "audio": audio}) as daemon:
        yield daemon


def test_it_hears_a_visitor_answers_commands_and_ends_cleanly(visited: Daemon) -> None:
    heard = visited.turn()
    assert (heard["source"], heard["heard"], heard["intent"]) == ("voice", "what time is it", "clock.time")
    assert heard["spoken"]

    asked = visited.command("ask", "set a pasta timer for nine minutes", "--json")
    assert json.loads(asked.stdout)["intent"] == "timer.set"
    assert visited.turn()["source"] == "cli"

    refused = visited.command("run")
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1

    below = descendants(visited.process.pid)
    assert below, "the recogniser has a process of its own"
    assert visited.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)

    kept = visited.command("ask", "how much time is left on the pasta timer")
    assert "pasta timer" in kept.stdout, "the timer outlived the daemon"


def test_a_signal_makes_it_listen_and_another_ends_it(tmp_path: Path) -> None:
    with running(tmp_path, {"listen": {"mode": "button"}, "audio": {"engine": "wav"}}) as daemon:
        daemon.until_ready()
        os.kill(daemon.process.pid, signal.SIGUSR1)
        deadline = time.monotonic() + BOUND_S
        while asyncio.run(state(daemon)) != "listening":
            assert time.monotonic() < deadline
        assert daemon.stop(signal.SIGINT) == 0


def test_a_daemon_that_was_killed_says_what_it_was_saying(tmp_path: Path) -> None:
    config = {"audio": {"engine": "wav"}, "tts": {"engine": "tone"}}
    with running(tmp_path, config) as daemon:
        daemon.until_ready()
        asked = subprocess.Popen([sys.executable, "-m", "roomtone.cli", "ask", HELP, *daemon.where])
        deadline = time.monotonic() + BOUND_S
        while "speaking" not in stages(daemon):
            assert time.monotonic() < deadline
        assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
        assert asked.wait(BOUND_S) == 1
    with running(tmp_path, config) as daemon:
        assert daemon.turn()["said"].startswith("I was cut off. I was saying: ")
        assert daemon.stop() == 0


def stages(daemon: Daemon) -> list[str]:
    """List how far the turns have come that are in its store."""
    with closing(sqlite3.connect(daemon.state_dir / FILE_NAME)) as store:
        return [json.loads(data)["stage"] for (data,) in store.execute("SELECT data FROM turns")]


async def state(daemon: Daemon) -> str:
    """Return the daemon's state, or "" while it does not listen."""
    try:
        async for message in ask_daemon(daemon.state_dir / "control.sock", {"command": "status"}):
            return str(message["result"]["state"])
    except DaemonGone:
        pass
    return ""


def test_a_broken_configuration_is_said_and_the_daemon_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOMTONE__AUDIO__ENGINE", "wav")
    with running(tmp_path, {"listne": {"mode": "open"}}) as daemon:
        assert "configuration has a mistake" in daemon.turn()["spoken"]
        assert daemon.stop() == 0
        assert "listne" in daemon.errors


def test_a_setting_that_nothing_can_be_opened_with_is_given_up_aloud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOMTONE__AUDIO__ENGINE", "wav")
    with running(tmp_path, {"tts": {"engine": "espeak", "voice": "nobody"}}) as daemon:
        assert "configuration has a mistake" in daemon.turn()["spoken"]
        assert asyncio.run(state(daemon)), "it goes on with the state it was given, not with another"
        assert daemon.stop() == 0
        assert "nobody" in daemon.errors
        assert not (daemon.state_dir / "config.last-good.yaml").exists()


def test_an_engine_that_is_named_and_absent_costs_nothing_else_of_the_configuration(tmp_path: Path) -> None:
    tts = {"engine": "piper", "voice": "en_US-deleted-low"}
    with running(tmp_path, {"device": {"room": "kitchen"}, "audio": {"engine": "wav"}, "tts": tts}) as daemon:
        told = daemon.turn()
        assert "configuration has a mistake" in told["spoken"]
        assert told["room"] == "kitchen"
        assert daemon.stop() == 0
        assert "roomtone models pull en_US-deleted-low" in daemon.errors


def test_a_default_persona_that_there_is_not_costs_nothing_else_of_the_configuration(tmp_path: Path) -> None:
    config = {"device": {"room": "kitchen"}, "audio": {"engine": "wav"}, "personas": {"default": "nobody"}}
    with running(tmp_path, config) as daemon:
        told = daemon.turn()
        assert told["spoken"] == "Nobody is gone, or has a mistake in the files. Companion speaks instead."
        assert told["room"] == "kitchen"
        assert daemon.stop() == 0
        assert "there is no persona 'nobody'" in daemon.errors


def test_a_persona_is_chosen_edited_and_brought_back_while_the_daemon_runs(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "personas" / "guide"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("name: Guide\n")
    (folder / "system_prompt.md").write_text("You guide.")
    with running(tmp_path, {"audio": {"engine": "wav"}, "tts": {"engine": "tone"}}) as daemon:
        daemon.until_ready()
        used = daemon.command("personas", "use", "guide", "--json")
        assert json.loads(used.stdout) == {
            "used": {"persona": "guide", "name": "Guide", "earlier": "companion", "speaks": "now"}
        }
        (folder / "config.yaml").write_text("name: Leader\nversion: '2'\n")
        deadline = time.monotonic() + BOUND_S
        while "I'm Leader." not in daemon.command("ask", "who are you").stdout:
            assert time.monotonic() < deadline
        (folder / "config.yaml").write_text("name: [")
        while "There is a mistake in my files" not in daemon.turn()["said"]:
            pass
        assert "I'm Leader." in daemon.command("ask", "who are you").stdout
        assert daemon.command("personas", "check", "guide").returncode == 1
        assert daemon.command("personas", "use", "nobody").stderr.startswith("roomtone: there is no persona 'nobody'")
        assert "version 2" in daemon.command("personas", "rollback", "guide").stdout
        assert (folder / "config.yaml").read_text() == "name: Leader\nversion: '2'\n"
        assert daemon.stop() == 0
    shutil.rmtree(folder)
    with running(tmp_path, {"audio": {"engine": "wav"}, "tts": {"engine": "tone"}}) as daemon:
        assert daemon.turn()["said"] == "Guide is gone, or has a mistake in the files. Companion speaks instead."


def test_a_full_disk_behind_its_output_does_not_end_the_daemon(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, {"audio": {"engine": "wav"}}, output="/dev/full")
    try:
        daemon.until_ready()
        assert daemon.command("ask", "what time is it").returncode == 0
        assert daemon.command("ask", "what time is it").returncode == 0
        assert asyncio.run(state(daemon)) != ""
        assert daemon.stop() == 0
    finally:
        daemon.process.kill()
        daemon.process.communicate()


def test_a_rehearsal_leaves_the_households_timers_alone(tmp_path: Path) -> None:
    with running(tmp_path, {"audio": {"engine": "wav"}}) as daemon:
        daemon.until_ready()
        (tmp_path / "a.wav").write_bytes(encode_wav(Audio.silence(1.0)))
        refused = daemon.command("converse", str(tmp_path / "a.wav"))
        assert refused.returncode == 1
        assert "in use by process" in refused.stderr
        assert daemon.stop() == 0
