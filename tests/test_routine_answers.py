"""What there is of routines, told by the daemon to an asker and by the command to a person."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room
from roomtone import cli
from roomtone.answers import Answers
from roomtone.core.errors import UsageError
from roomtone.metrics import Metrics
from test_routines import settings, started, write

ODD = {
    "a": {"tool": "volume.sett"},
    "b": {"tool": "wether.now"},
    "c": {"tool": "volume.set", "arguments": {"percent": "loud"}},
    "d": {"say": "x", "persona": "nobody"},
    "e": {"tool": "volume.set", "arguments": {"percent": "{{b}}"}, "fallback": ""},
}


def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    code = cli.main(["routines", *words, "--state-dir", str(tmp_path)])
    shown = capsys.readouterr()
    return code, shown.out + shown.err


def home(tmp_path: Path) -> Path:
    write(
        tmp_path, "evening", steps={"low": {"tool": "volume.set", "arguments": {"percent": 30}}}, phrases=["rest now"]
    )
    write(tmp_path, "odd", steps=ODD)
    write(tmp_path, "ring", steps={"a": {"say": "x", "needs": ["b"]}, "b": {"say": "y", "needs": ["a"]}})
    return tmp_path


def test_a_household_sees_its_routines_and_what_is_wrong_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home(tmp_path)
    code, shown = command(tmp_path, capsys, "list")
    assert code == 0
    assert 'evening  (household, 1 step)\n    started by "rest now"' in shown
    assert "morning  (roomtone, 5 steps)" in shown
    assert "broken:" in shown
    code, shown = command(tmp_path, capsys, "check")
    assert code == 1
    ring, *odd = shown.splitlines()[::-1][:1] + shown.splitlines()[:-1]
    assert "a -> b -> a" in ring
    assert odd == [
        "odd: steps.a.tool: there is no tool 'volume.sett'; did you mean volume.set, volume.get, timer.set?",
        "odd: steps.b.tool: there is no server 'wether' under mcp: in the configuration, and the step has no "
        "fallback",
        "odd: steps.c.arguments: percent: Input should be a valid integer, unable to parse string as an integer",
        "odd: steps.d.persona: there is no persona 'nobody'",
    ]
    assert command(tmp_path, capsys, "check", "evening") == (0, "All is well.\n")
    assert command(tmp_path, capsys, "check", str(tmp_path / "routines" / "ring.yaml"))[0] == 1


def test_what_starts_a_routine_that_there_is_not_is_a_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("schedules: {bed: {cron: '0 20 * * *', routine: bedtime}}\n", "utf-8")
    assert cli.main(["routines", "check", "--config", str(config), "--state-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().out == "schedules.bed.routine: there is no routine 'bedtime'\n"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["run", "nosuch"], "there is no routine 'nosuch'; there are evening, morning, odd"),
        (["run", "ring"], "the routine 'ring' cannot be run: "),
        (["check", "nosuch"], "there is no routine 'nosuch'"),
        (["check", "./no.yaml"], "there is no file no.yaml"),
        (["status", "zz"], "'zz' is no run and no routine that was run; see: roomtone routines status"),
        (["status", "%%%%"], "'%%%%' is no run"),
    ],
)
def test_what_there_is_not_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], reason: str
) -> None:
    code, shown = command(home(tmp_path), capsys, *words)
    assert (code, shown.count("\n")) == (2, 1)
    assert reason in shown


def test_a_routine_is_run_and_its_steps_are_seen_by_status_and_by_history(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home(tmp_path)
    assert command(tmp_path, capsys, "status") == (0, "No routine was run yet.\n")
    assert command(tmp_path, capsys, "run", "evening") == (0, "Done.\n")
    code, shown = command(tmp_path, capsys, "run", "odd", "--json")
    assert (code, json.loads(shown)["said"]) == (0, "x.")
    code, shown = command(tmp_path, capsys, "status")
    assert [line.rpartition("  ")[2] for line in shown.splitlines()] == ["evening, done", "odd, partly"]
    code, shown = command(tmp_path, capsys, "status", "odd", "--json")
    told = json.loads(shown)
    assert told["steps"]["a"]["error"].startswith("there is no tool 'volume.sett'")
    node = told["steps"]["a"]["node"]
    assert command(tmp_path, capsys, "status", told["run"]["id"][:6])[1].startswith(told["run"]["id"][:8])
    assert cli.main(["history", "--node", node, "--state-dir", str(tmp_path)]) == 0
    *_, summary = capsys.readouterr().out.splitlines()
    assert summary.startswith("Step a of the routine odd in turn 2 of session")
    assert ": failed (there is no tool 'volume.sett'" in summary


def test_the_daemon_answers_too_and_tells_how_a_run_stands_that_is_under_way(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        write(tmp_path, "slow", steps={"first": {"say": "Hello there."}, "wait": {"wait": 5}})
        async with room(settings(tmp_path), tmp_path) as rehearsal:
            here = rehearsal.room
            answers = Answers(here, Metrics(here.feed, here.engines, (here.parts.stt, here.synthesiser), tmp_path))

            async def asked(**request: Any) -> list[dict[str, Any]]:
                return [each async for each in answers.answer({"command": "routines", **request})]

            assert [each["routine"]["name"] for each in (await asked(do="list"))[:-1]] == ["morning", "slow"]
            with here.feed.watch("routine.step") as steps:
                running_ = asked(do="run", routine="slow")

                async with asyncio.TaskGroup() as group:
                    task = group.create_task(running_)
                    while (await anext(steps)).data["step"] != "wait":
                        pass
                    [under_way, _] = await asked(do="status", run="slow")
            assert (under_way["run"]["status"], under_way["steps"]["wait"]["status"]) == ("running", "running")
            [result] = task.result()
            assert result["result"]["said"] == "Hello there."
            [over, _] = await asked(do="status")
            assert (over["run"]["routine"], over["run"]["status"]) == ("slow", "done")
            assert (await started(here, "slow")).said == "Hello there."
            for wrong in ({"do": "dance"}, {"do": "run", "routine": 7}, {"do": "status", "limit": "x"}):
                with pytest.raises(UsageError):
                    await asked(**wrong)

    run(scenario())
