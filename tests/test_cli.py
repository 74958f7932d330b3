"""The command line: exit codes, errors of one line, and quickness."""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from conftest import Run
from roomtone import cli, config, installed, settings
from roomtone.commands import COMMANDS
from roomtone.core.dialog import Ended, Latency, Source, Turn, TurnError
from roomtone.core.errors import ConfigError, EngineUnavailable, RoomtoneError, UsageError
from roomtone.store import FILE_NAME, open_store


@pytest.fixture(autouse=True)
def _no_file_of_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "etc" / "config.yaml")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace, Any], int]], None]:
    """Put a command of the test's own in the place of ``say``."""

    def install(run: Callable[[argparse.Namespace, Any], int]) -> None:
        module = ModuleType("roomtone.commands.say", "A command of the test's own.")
        vars(module).update(run=run, add_arguments=lambda parser: None)
        monkeypatch.setitem(sys.modules, "roomtone.commands.say", module)

    return install


Command = Callable[[Callable[[argparse.Namespace, Any], int]], None]


def raising(error: BaseException) -> Callable[[argparse.Namespace, Any], int]:
    def run(args: argparse.Namespace, settings: Any) -> int:
        raise error

    return run


def process(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "roomtone.cli", *words], capture_output=True, text=True, **more)


# ------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (EngineUnavailable("no voice; run: pip install it"), 1, "roomtone: no voice; run: pip install it\n"),
        (UsageError("a text is needed"), 2, "roomtone: a text is needed\n"),
        (ConfigError("one\ntwo"), 2, "roomtone: one\nroomtone: two\n"),
        (KeyboardInterrupt(), 130, ""),
        (ValueError("odd"), 1, "roomtone: odd (ValueError); add --debug to see where\n"),
        (FileNotFoundError(2, "No such file", "x.wav"), 1, "x.wav: No such file (FileNotFoundError)"),
        (
            ExceptionGroup("", [RoomtoneError("a"), ExceptionGroup("", [UsageError("b")])]),
            1,
            "roomtone: a\nroomtone: b\n",
        ),
        (ExceptionGroup("", [UsageError("b")]), 2, "roomtone: b\n"),
    ],
)
def test_an_error_is_a_line_on_stderr_and_an_exit_code(
    command: Command, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, said: str
) -> None:
    command(raising(error))
    assert cli.main(["say"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err


def test_debug_adds_the_traceback(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    command(raising(RoomtoneError("a")))
    assert cli.main(["say", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "in raising" in err or "in run" in err
    assert err.endswith("roomtone: a\n")


@pytest.mark.parametrize(
    "words", [[], ["frob"], ["config", "--frob"], ["history", "--limit", "0"], ["--json", "config"]]
)
def test_wrong_usage_exits_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(words)
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


def test_every_command_takes_the_same_options_after_it(command: Command) -> None:
    seen: list[argparse.Namespace] = []
    command(lambda args, settings: seen.append(args) or 0)  # type: ignore[func-returns-value]
    assert cli.main(["say", "--state-dir", "/s", "--json"]) == 0
    assert cli.main(["say"]) == 0
    assert (seen[0].state_dir, seen[0].json, seen[0].debug) == (Path("/s"), True, None)
    assert (seen[1].state_dir, seen[1].json, seen[1].config) == (None, None, None)


def test_the_state_folder_named_goes_before_the_configured_one(command: Command, tmp_path: Path) -> None:
    seen: list[Path] = []
    file = tmp_path / "c.yaml"
    file.write_text("state_dir: /from-file")
    command(lambda args, settings: seen.append(settings.state_dir) or 0)  # type: ignore[func-returns-value]
    for more in ([], ["--state-dir", "/named"]):
        assert cli.main(["say", "--config", str(file), *more]) == 0
    assert seen == [Path("/from-file"), Path("/named")]


# ---------------------------------------------------------------------------------------- processes


@pytest.mark.parametrize("words", [["backup", "a file"], ["restore", "a file"], ["maintain"], ["models", "list"]])
def test_where_the_machine_has_a_room_nobody_takes_care_of_a_state_of_their_own_instead(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.SERVICE_STATE.mkdir()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)
    assert cli.main(words) == 1
    assert f"for root alone; run: sudo roomtone {shlex.join(words)} (or" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    cli.main([*words, "--state-dir", str(tmp_path / "own")])
    assert "for root alone" not in capsys.readouterr().err


def test_who_is_not_root_is_told_how_to_upgrade_even_from_where_they_may_not_look(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "current").mkdir()
    (tmp_path / "current" / "install.sh").touch()
    monkeypatch.setattr(installed.install, "__kwdefaults__", {"folder": tmp_path})
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert cli.main(["upgrade", "/root/roomtone-2.tar"]) == 1
    assert capsys.readouterr().err == (
        "roomtone: only root may change the installation; run: sudo roomtone upgrade /root/roomtone-2.tar\n"
    )


def test_every_command_has_a_module_and_a_line_of_help() -> None:
    said = process("--help").stdout
    for name, summary in COMMANDS.items():
        assert summary in said
        assert (Path(cli.__file__).parent / "commands" / f"{name.replace('-', '_')}.py").is_file(), (
            f"{name} is listed and not there"
        )


def test_starting_imports_no_more_than_it_must() -> None:
    heavy = ("pydantic", "numpy", "asyncio", "yaml", "rich", "sqlite3")
    look = f"import sys, roomtone.cli; print([name for name in {heavy} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, text=True).stdout == "[]\n"


def test_a_closed_pipe_is_no_error() -> None:
    shell = f"{sys.executable} -m roomtone.cli config | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_results_that_cannot_be_written_are_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "roomtone.cli", "config"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr == "roomtone: No space left on device (OSError); add --debug to see where\n"


# ----------------------------------------------------------------------------------- config, engines


def test_config_prints_the_effective_configuration(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOMTONE__DEVICE__ROOM", "kitchen")
    assert cli.main(["config"]) == 0
    assert "device.room: kitchen\n" in capsys.readouterr().out
    assert cli.main(["config", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["device"]["room"] == "kitchen"


def test_config_tells_every_mistake_and_exits_with_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("web: {listen: 1}\nhub: {ur: x}")
    assert cli.main(["config", "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"roomtone: {file}: hub.ur: unknown key; did you mean url?",
        f"roomtone: {file}: web.listen: 1 is not a text; put it in quotes",
    ]


def test_engines_shows_each_with_what_it_lacks_and_what_was_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["engines", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    vad = {row["engine"]: row for row in rows if row["seam"] == "vad"}
    assert vad["webrtc"]["usable"]
    assert sum(row["chosen"] for row in vad.values()) == 1
    for row in rows:
        assert row["usable"] == (row["missing"] is None)
        assert row["why"]
    assert cli.main(["engines"]) == 0
    assert "webrtc" in capsys.readouterr().out


def test_the_command_that_installs_an_engine_is_shown_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setattr("roomtone.engines.vad.silero.missing", lambda settings: "run: pip install 'roomtone[silero]'")
    assert cli.main(["engines"]) == 0
    assert "pip install 'roomtone[silero]'" in capsys.readouterr().out


def test_an_engine_named_in_the_configuration_is_shown_as_chosen(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOMTONE__TTS__ENGINE", "tone")
    assert cli.main(["engines", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (chosen,) = [row for row in rows if row["seam"] == "tts" and row["chosen"]]
    assert (chosen["engine"], chosen["why"]) == ("tone", "named in the configuration")


# ---------------------------------------------------------------------------------------- say


def test_what_was_said_is_printed_and_remembered_as_something_nobody_asked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ROOMTONE__AUDIO__ENGINE", "wav")
    monkeypatch.setenv("ROOMTONE__TTS__ENGINE", "tone")
    assert cli.main(["say", "hello there", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "hello there\n"
    assert cli.main(["say", "hello there", "--json", "--state-dir", str(tmp_path)]) == 0
    assert Turn.model_validate_json(capsys.readouterr().out).spoken == "hello there"
    assert cli.main(["history", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("(nobody asked)") == 2


def test_engines_shows_the_language_models_that_the_configuration_names(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("llm: {providers: {one: {engine: script}, two: {engine: llama_cpp}}}")
    assert cli.main(["engines", "--json", "--config", str(config), "--state-dir", str(tmp_path)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    one, two = [row for row in rows if row["seam"] == "llm"]
    assert (one["engine"], one["chosen"], one["missing"]) == ("script", True, None)
    assert one["why"] == "named in the configuration, as one"
    assert (two["engine"], two["chosen"], bool(two["missing"])) == ("llama_cpp", False, True)


# ------------------------------------------------------------------------------------------ history


@pytest.fixture
def state(run: Run[Any], tmp_path: Path) -> Path:
    fixed: dict[str, Any] = {"session": "s", "trace": "t", "room": "kitchen", "persona": "companion"}
    good = {"heard": "what time is it", "said": "Noon.", "spoken": "Noon.", "intent": "clock.time"}
    latency = Latency(first_sound=312.4)
    failed: dict[str, Any] = {
        "ended": Ended.FAILED,
        "error": TurnError(code="ENGINE_CRASHED", message="the voice broke"),
    }

    async def main() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            at = datetime(2026, 11, 21, 23, 30, tzinfo=UTC)
            first = Turn(turn=1, source=Source.VOICE, answered_by="skill", at=at, latency_ms=latency, **fixed, **good)
            await store.save_turn(first, closed=True)
            await store.save_turn(Turn(turn=2, source=Source.CLI, **fixed, **failed), closed=True)

    run(main())
    return tmp_path


def test_history_says_what_was_said_and_why_it_went_so(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    assert cli.main(["history", "--state-dir", str(state)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].endswith("in kitchen, session s")
    assert lines[1].endswith("what time is it")
    assert lines[2:4] == ["Noon.", "voice to companion, clock.time, completed, 312 ms"]
    assert lines[-1] == "cli to companion, none, failed, ENGINE_CRASHED: the voice broke"


def test_history_tells_the_household_s_time_whatever_the_machine_s(
    capsys: pytest.CaptureFixture[str], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOMTONE__TIME_ZONE", "Pacific/Auckland")
    assert cli.main(["history", "--state-dir", str(state)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("2026-11-22 in kitchen")
    assert lines[1].startswith("  12:30:00  what time is it")


def test_history_as_json_is_a_turn_a_line(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    assert cli.main(["history", "--state-dir", str(state), "--json", "--limit", "1"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert Turn.model_validate_json(line).turn == 2


def test_history_is_erased_only_when_that_was_confirmed(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    asked = process("history", "--state-dir", str(state), "--erase", stdin=subprocess.DEVNULL)
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "add --yes" in asked.stderr
    assert cli.main(["history", "--state-dir", str(state), "--erase", "--yes"]) == 0
    capsys.readouterr()
    assert cli.main(["history", "--state-dir", str(state)]) == 0
    assert capsys.readouterr().out == "Nothing was said yet.\n"


def test_history_tells_of_a_store_that_had_to_be_set_aside(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"garbage" * 1000)
    assert cli.main(["history", "--state-dir", str(tmp_path)]) == 0
    assert "the store was damaged and was moved to" in capsys.readouterr().err
