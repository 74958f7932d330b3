"""``roomtone bench --compare``: what changed since an earlier run, and what only seems to have."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomtone import cli
from roomtone.bench import Figure
from roomtone.bench.comparison import Change, change, earlier, noise
from roomtone.commands import bench
from roomtone.core.errors import UsageError

WAIT = Figure("wait_ms_p50", 300.0, "ms", "<= 350", 100)
SHARE = Figure("understood", 90.0, "%", ">= 90", 120)


def compared(before: Figure, value: float | None) -> Change:
    return change(Figure(before.name, value, before.unit, before.goal, before.n), {before.name: before})


def test_a_goal_says_which_way_is_good() -> None:
    assert compared(WAIT, 200.0) is Change.BETTER
    assert compared(WAIT, 400.0) is Change.WORSE
    assert compared(SHARE, 99.0) is Change.BETTER
    assert compared(SHARE, 80.0) is Change.WORSE


def test_what_two_runs_differ_by_anyway_is_no_change() -> None:
    assert compared(WAIT, 320.0) is Change.SAME
    assert compared(SHARE, 92.5) is Change.SAME
    assert compared(Figure("overhead_ms_p50", 0.8, "ms", "<= 3", 234), 1.6) is Change.SAME
    assert compared(Figure("idle_writes", 0, "bytes", "<= 0", 20), 4096) is Change.WORSE


def test_a_share_of_few_samples_moves_more_by_chance_than_one_of_many() -> None:
    few, many = (Figure("taken", 70.0, "%", ">= 80", n) for n in (24, 2400))
    assert noise(few, few) > 5 * noise(many, many)


def test_a_figure_that_was_not_to_be_had_is_the_worst() -> None:
    assert compared(WAIT, None) is Change.WORSE
    assert compared(Figure("wait_ms_p50", None, "ms", "<= 350", 0), 300.0) is Change.BETTER
    assert compared(Figure("wait_ms_p50", None, "ms", "<= 350", 0), None) is Change.SAME


def test_a_figure_without_a_goal_only_informs() -> None:
    assert compared(Figure("stt_child_rss", 190.0, "MB", "", 1), 100.0) is Change.SAME


def test_a_figure_that_the_earlier_run_lacks_is_new() -> None:
    assert change(WAIT, {}) is Change.NEW


def test_what_bench_printed_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "before.jsonl"
    file.write_text("\n".join(json.dumps(asdict(figure)) for figure in (WAIT, SHARE)) + "\n\n")
    assert earlier(file) == {"wait_ms_p50": WAIT, "understood": SHARE}


@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), lambda one: st.lists(one)).map(json.dumps))
def test_a_broken_file_is_one_line(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    file = tmp_path_factory.mktemp("bench") / "before.jsonl"
    file.write_text(content, "utf-8", "surrogatepass")
    with pytest.raises(UsageError) as refused:
        earlier(file)
    assert "\n" not in refused.value.message
    assert "roomtone bench --json" in refused.value.message


@pytest.mark.parametrize("value", ["true", '"fast"', "NaN", "[1]"])
def test_a_value_that_is_no_number_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    file = tmp_path / "before.jsonl"
    file.write_text(
        json.dumps(asdict(WAIT)) + f'\n{{"name": "x", "value": {value}, "unit": "", "goal": "", "n": 1}}\n'
    )
    with pytest.raises(UsageError, match="line 2"):
        earlier(file)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure nothing: the process subject has two figures at once."""
    figures = [Figure("wait_ms_p50", 200.0, "ms", "<= 350", 100), Figure("fresh", 1.0, "ms", "", 1)]
    monkeypatch.setattr(bench.process, "measure", lambda: figures)


def before(tmp_path: Path) -> Path:
    file = tmp_path / "before.jsonl"
    file.write_text("\n".join(json.dumps(asdict(figure)) for figure in (WAIT, SHARE)))
    return file


@pytest.mark.usefixtures("measured")
def test_the_table_shows_both_runs_and_names_what_only_one_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    assert cli.main(["bench", "--only", "process", "--compare", str(before(tmp_path))]) == 0
    shown = capsys.readouterr().out
    [line] = [line for line in shown.splitlines() if "wait_ms_p50" in line]
    assert [cell.strip() for cell in line.strip("│").split("│")] == [
        "wait_ms_p50", "300", "200", "ms", "<= 350", "better",
    ]  # fmt: skip
    assert "new" in next(line for line in shown.splitlines() if "fresh" in line)
    assert "Only the earlier run has: understood" in shown


@pytest.mark.usefixtures("measured")
def test_json_has_what_was_before_and_how_it_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--json", "--only", "process", "--compare", str(before(tmp_path))]) == 0
    wait, fresh = map(json.loads, capsys.readouterr().out.splitlines())
    assert (wait["before"], wait["value"], wait["change"]) == (300.0, 200.0, "better")
    assert (fresh["before"], fresh["change"]) == (None, "new")


@pytest.mark.usefixtures("measured")
def test_a_missing_file_is_told_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "--only", "process", "--compare", str(tmp_path / "none")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
