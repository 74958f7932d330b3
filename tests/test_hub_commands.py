"""The hub's command line: it asks the hub that runs, and says what starts one where none does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from broker import Broker, broker
from hub_rooms import hub_room
from roomtone.cli import main
from roomtone.commands.ask import show
from roomtone.control import ask_daemon
from roomtone.core.dialog import Turn
from roomtone.hub.database import open_database
from roomtone.hub.folder import database_path, socket_of
from roomtone.hub.registry import Admission, Registry, admit

__all__ = ["broker"]


@pytest.fixture
def config(broker: Broker, tmp_path: Path) -> Path:
    """The configuration of a hub at a broker of its own."""
    hub = broker.hub("hub")
    keys = {"url": hub.url, "home": hub.home, "ca": hub.ca, "cert": hub.cert, "key": hub.key}
    lines = [f"state_dir: {tmp_path / 'state'}", "hub:", *(f"  {key}: {value}" for key, value in keys.items())]
    file = tmp_path / "config.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


@contextmanager
def a_running_hub(config: Path) -> Iterator[subprocess.Popen[str]]:
    """``roomtone hub run`` in a process of its own, ready."""
    command = [sys.executable, "-m", "roomtone.cli", "hub", "run", "--json", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as process:
        try:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["hub"] == "ready"
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_without_a_hub_one_line_says_what_starts_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for words in (["devices"], ["where"], ["announce", "dinner"], ["handoff", "kitchen", "study"]):
        assert main(["hub", *words, "--state-dir", str(tmp_path)]) == 1
        assert capsys.readouterr().err == (
            "roomtone: no hub runs here; start it: sudo systemctl start roomtone-hub (or: roomtone hub run)\n"
        )


def test_a_hub_that_was_never_set_up_does_not_start(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["hub", "run", "--state-dir", str(tmp_path)]) == 1
    assert "roomtone hub setup" in capsys.readouterr().err


def test_devices_are_listed_moved_and_retired_from_the_command_line(
    run_in_real_time: Any, capsys: pytest.CaptureFixture[str], broker: Broker, config: Path
) -> None:
    def ask(*words: str) -> str:
        code = main(["hub", *words, "--config", str(config)])
        out = capsys.readouterr()
        return out.out if code == 0 else out.err

    state_dir = config.parent / "state"

    async def known(id_: str, online: bool) -> bool:
        events = [event async for event in ask_daemon(socket_of(state_dir, {}), {"command": "devices"})]
        return any(
            event["device"]["id"] == id_ and event["device"]["online"] is online
            for event in events
            if "device" in event
        )

    async def come_and_go() -> None:
        async with hub_room(broker.hub("kitchen"), "kitchen"):
            while not await known("kitchen", online=True):
                pass
        while not await known("kitchen", online=False):
            pass

    with a_running_hub(config):
        run_in_real_time(come_and_go())
        assert ask("devices").startswith("kitchen               kitchen         off")
        [room] = [json.loads(line) for line in ask("where", "--json").splitlines()]
        assert (room["room"], room["online"]) == ("kitchen", False)
        assert ask("handoff", "kitchen", "study") == "roomtone: there is no room called study; known are: kitchen\n"
        assert ask("handoff", "cellar", "kitchen") == "roomtone: there is no room called cellar; known are: kitchen\n"
        assert main(["hub", "announce", "dinner", "--config", str(config)]) == 1
        assert capsys.readouterr().out == "It was said nowhere.\nNot in the kitchen: it is off\n"
        ask("retire", "kitchen")
        assert "retired" in ask("devices")
        assert ask("where") == "No room is known yet; let one in: roomtone hub enroll\n"
        assert ask("retire", "cellar").startswith("roomtone: there is no device called cellar")


def test_a_hub_that_has_no_broker_says_so_to_whoever_asks_it(
    capsys: pytest.CaptureFixture[str], broker: Broker, config: Path
) -> None:
    broker.stop()
    with a_running_hub(config):
        assert main(["hub", "announce", "dinner", "--config", str(config)]) == 1
        assert capsys.readouterr().err.startswith("roomtone: the hub has no broker now: ")
        assert main(["hub", "where", "--json", "--config", str(config)]) == 0
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith("roomtone: this is how it was: ")


def test_an_answer_that_is_another_rooms_leaves_no_empty_line(capsys: pytest.CaptureFixture[str]) -> None:
    known = {"turn": 1, "trace": "t", "session": "s", "room": "kitchen", "persona": "companion", "source": "cli"}
    assert show(Turn.model_validate({**known, "ended": "moved"}), as_json=False) == 0
    assert capsys.readouterr().out == "The conversation goes on in another room.\n"


def test_a_second_hub_process_runs_beside_the_first_and_both_stop_cleanly(config: Path) -> None:
    with a_running_hub(config), a_running_hub(config):
        pass


def test_who_is_shut_out_by_a_command_is_so_for_a_hub_that_runs(run: Any, tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_database(database_path(tmp_path)) as running, open_database(database_path(tmp_path)) as other:
            registry = Registry(running)
            registry.on_presence("kitchen", b'{"id": "kitchen", "online": true, "room": "kitchen"}', 0.0)
            await registry.flush()
            assert await admit(other, "kitchen", Admission.REVOKED)
            await registry.look_up_admissions()
            assert registry.get("kitchen") is None
            registry.on_presence("kitchen", b'{"id": "kitchen", "online": true, "room": "cellar"}', 1.0)
            await registry.flush()
            await registry.look_up_admissions()
            assert registry.get("kitchen") is None

    run(scene())
