"""The night's work: what it finds is told once, and what is damaged costs nothing that was good."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from roomtone import cli, models
from roomtone.commands import maintain as command
from roomtone.core.errors import StoreError
from roomtone.core.persona import QuietHours
from roomtone.migrations import STEPS
from roomtone.mind.phrases import Phrases
from roomtone.settings import Settings
from roomtone.store import FILE_NAME, open_store
from roomtone.upkeep import backup, maintenance
from roomtone.upkeep.maintenance import OUTCOME, Outcome, backups, is_due, maintain, may_be_told, read
from test_backup import everything, rows, settings_of, small_disk
from test_migrations import old_store

NIGHT = datetime(2026, 11, 22, 2, 30, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state"
    old_store(folder / FILE_NAME, len(STEPS))
    return folder


def night_after_night(state: Path, monkeypatch: pytest.MonkeyPatch, nights: int) -> list[Outcome]:
    """Do the work of some nights, on each of which somebody has talked the day before."""
    outcomes = []
    for night in range(nights):
        talk(state, f"day {night}")
        at = NIGHT + timedelta(days=night)
        for module in (maintenance, backup):
            monkeypatch.setattr(module, "now", lambda at=at: at)
        outcomes.append(maintain(settings_of(state)))
    return outcomes


def talk(state: Path, text: str) -> None:
    with closing(sqlite3.connect(state / FILE_NAME)) as connection, connection:
        connection.execute("INSERT INTO kept VALUES (?, ?, '')", (text, text))


def damage(state: Path) -> None:
    """Turn some pages of the store into noise, as a worn out card does."""
    with closing(sqlite3.connect(state / FILE_NAME)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with (state / FILE_NAME).open("r+b") as file:
        file.seek(8 * 1024)
        file.write(os.urandom(40 * 1024))


def line(outcome: Outcome, what: str) -> maintenance.Line:
    [found] = [line for line in outcome.lines if line.what == what]
    return found


def test_a_night_settles_the_store_and_keeps_a_backup(state: Path) -> None:
    outcome = maintain(settings_of(state))
    assert outcome.ok, outcome.lines
    assert [line.what for line in outcome.lines] == ["store", "checkpoint", "prune", "backup"]
    [kept] = backups(state)
    with backup.opened(kept) as tar:
        assert set(backup.read_manifest(tar, kept).files) == {"state/roomtone.db"}
    told = read(state)
    assert told is not None
    assert (told.at, told.lines, told.untold) == (outcome.at, outcome.lines, ())
    assert json.loads((state / OUTCOME).read_text())["ok"] is True


def test_a_night_after_a_day_on_which_nothing_was_said_writes_its_outcome_alone(state: Path) -> None:
    maintain(settings_of(state))
    before = everything(state)
    outcome = maintain(settings_of(state))
    after = everything(state)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed == {OUTCOME}
    assert line(outcome, "backup").said.startswith("nothing has changed since roomtone-kitchen-1-")


def test_seven_backups_are_kept_the_last_ones(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    night_after_night(state, monkeypatch, 10)
    days = [path.name.rsplit("-", 2)[1] for path in backups(state)]
    assert days == [f"{NIGHT + timedelta(days=night):%Y%m%d}" for night in range(3, 10)]


def test_backups_keep_to_their_share_but_the_last_is_kept(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maintenance, "BUDGET_BYTES", 1)
    night_after_night(state, monkeypatch, 3)
    assert len(backups(state)) == 1


def test_a_disk_that_is_full_costs_the_oldest_backups_and_never_the_last(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "card", 4000) as card:
        small = card / "state"
        (small / "backups").mkdir(parents=True)
        (small / FILE_NAME).write_bytes((state / FILE_NAME).read_bytes())
        for day in (1, 2, 3):
            (small / "backups" / f"roomtone-kitchen-1-2026010{day}-000000.tar.gz").write_bytes(os.urandom(300_000))
        monkeypatch.setattr(maintenance, "BUDGET_SHARE", 1.0)
        disk, enough = os.statvfs(card), (small / FILE_NAME).stat().st_size + 200_000
        (small / "filler").write_bytes(bytes(disk.f_bavail * disk.f_frsize - enough + 250_000))
        outcome = maintain(Settings(state_dir=small))
        assert line(outcome, "backup").ok
        assert [path.name.rsplit("-", 2)[1] for path in backups(small)][:-1] == ["20260102", "20260103"]
        assert read(small) is not None


def test_a_damaged_store_is_told_and_costs_no_backup_that_was_good(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    night_after_night(state, monkeypatch, 7)
    good = backups(state)
    damage(state)
    outcome = maintain(settings_of(state))
    assert not outcome.ok
    assert "is damaged" in line(outcome, "store").said
    assert line(outcome, "store").mend == f"run: sudo roomtone restore {good[-1]}"
    assert backups(state) == good
    assert outcome.untold == ("store",)


def test_what_is_wrong_every_night_is_told_once(state: Path) -> None:
    damage(state)
    first = maintain(settings_of(state))
    assert first.untold == ("store",)
    again = maintain(settings_of(state))
    assert again.untold == ("store",), "nobody was told yet"
    maintenance.keep(state, Outcome(again.at, again.lines))
    assert maintain(settings_of(state)).untold == ()


def test_what_only_grows_is_cut_by_its_own_clock(run: Run[Any], state: Path) -> None:
    old, new = "2020-01-01T00:00:00+00:00", "2020-06-01T00:00:00+00:00"
    with closing(sqlite3.connect(state / FILE_NAME)) as connection, connection:
        connection.execute("DELETE FROM tool_runs")
        for number in range(500):
            run_ = (str(number), old if number < 450 else new, "", "", "", "timer.set", "done", "{}")
            connection.execute("INSERT INTO tool_runs VALUES (?,?,?,?,?,?,?,?)", run_)
        connection.execute("UPDATE routine_runs SET status = 'running', at = ?", (old,))
        waiting = ("later", new, None, "", "", "morning", "done", "{}")
        connection.execute("INSERT INTO routine_runs VALUES (?,?,?,?,?,?,?,?)", waiting)
    maintain(settings_of(state))
    assert rows(state / FILE_NAME, "SELECT count(*) FROM tool_runs") == [(50,)]
    assert rows(state / FILE_NAME, "SELECT id FROM routine_runs ORDER BY id") == [("later",), ("q1",)]

    async def main() -> None:
        async with open_store(state / FILE_NAME) as store:
            assert len(await store.history()) == 2

    run(main())


def test_a_model_that_is_damaged_is_told_and_the_longest_unread_is_read_first(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = state / "models"
    for name in ("one", "two"):
        (folder / "whisper" / name).mkdir(parents=True)
        for file in models.FORMS["whisper"].needed:
            (folder / "whisper" / name / file).write_text("{}")
    outcome = maintain(settings_of(state))
    wrong = [line for line in outcome.lines if line.what == "models" and not line.ok]
    assert [line.mend for line in wrong] == [f"run: roomtone models pull whisper-{name}" for name in ("one", "two")]
    assert "models" in outcome.untold
    monkeypatch.setattr(maintenance, "MODELS_BOUND_S", -1.0)
    assert maintain(settings_of(state)).lines[-1].said == "0 of 2 models were read"


def test_a_thing_that_fails_costs_nothing_but_itself(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(night: maintenance.Night) -> Any:
        raise StoreError("the disk burns; put it out")

    work = (("fire", broken), *maintenance.WORK)
    monkeypatch.setattr(maintenance, "WORK", work)
    outcome = maintain(settings_of(state))
    assert outcome.lines[0] == maintenance.Line("fire", False, "the disk burns", "put it out")
    assert line(outcome, "backup").ok


def test_what_a_cut_has_left_behind_goes_after_a_day(state: Path) -> None:
    old, fresh = state / ".restoring-old", state / ".restoring-fresh"
    for folder in (old, fresh):
        (folder / "new").mkdir(parents=True)
    long_ago = time.time() - 2 * maintenance.RUBBISH_AGE_S
    os.utime(old, (long_ago, long_ago))
    maintain(settings_of(state))
    assert (old.exists(), fresh.exists()) == (False, True)


def test_the_daemon_writes_while_the_night_goes_on(run: Run[Any], state: Path) -> None:
    async def main() -> None:
        async with open_store(state / FILE_NAME) as store:
            await store.keep("before", 1)
            outcome = maintain(settings_of(state))
            assert outcome.ok, outcome.lines
            await store.keep("after", 2)
            assert await store.kept("before") == 1

    run(main())


@pytest.mark.parametrize("text", ["", "{", "[]", '{"at": "x"}', '{"at": 1, "lines": []}', "\0"])
def test_an_outcome_that_cannot_be_read_is_none(state: Path, text: str) -> None:
    (state / OUTCOME).write_text(text)
    assert read(state) is None
    assert maintain(settings_of(state)).ok


# ---------------------------------------------------------------------------------------- when, and to whom


def test_it_is_due_once_a_night_and_after_a_clock_that_was_wrong() -> None:
    assert is_due(None)
    assert not is_due(Outcome(datetime.now(UTC) - timedelta(hours=6), ()))
    assert is_due(Outcome(datetime.now(UTC) - timedelta(hours=13), ()))
    assert is_due(Outcome(datetime.now(UTC) + timedelta(days=400), ()))


@pytest.mark.parametrize(
    ("hour", "quiet", "told"),
    [
        (3, None, False),
        (10, None, True),
        (22, None, False),
        (10, ("09:00", "11:00"), False),
        (12, ("09:00", "11:00"), True),
    ],
)
def test_it_is_told_by_day_on_the_households_clock_and_not_in_quiet_hours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hour: int, quiet: tuple[str, str] | None, told: bool
) -> None:
    monkeypatch.setattr(maintenance, "now", lambda: datetime(2026, 11, 22, hour, 30, tzinfo=UTC))
    hours = QuietHours.model_validate({"start": quiet[0], "end": quiet[1]}) if quiet else None
    assert may_be_told(Settings(state_dir=tmp_path, time_zone="UTC", quiet_hours=hours)) is told


def test_the_room_is_asked_to_say_it_once(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(state)
    said: list[dict[str, Any]] = []

    async def room(state_dir: Path, *, named: bool) -> Path:
        return state_dir / "control.sock"

    async def asked(path: Path, request: dict[str, Any]) -> Any:
        said.append(request)
        yield {"result": {}}

    monkeypatch.setattr(command, "find_daemon", room)
    monkeypatch.setattr(command, "ask_daemon", asked)
    monkeypatch.setattr(maintenance, "may_be_told", lambda settings: True)
    for _ in range(3):
        assert cli.main(["maintain", "--due", "--state-dir", str(state)]) == 1
    phrases = Phrases.load()
    assert said == [{"command": "say", "text": phrases.say("night_store")}]


def test_nobody_is_there_to_tell_and_it_waits(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(state)
    monkeypatch.setattr(maintenance, "may_be_told", lambda settings: True)
    assert cli.main(["maintain", "--state-dir", str(state)]) == 1
    outcome = read(state)
    assert outcome is not None
    assert outcome.untold == ("store",)


def test_every_thing_that_may_be_wrong_has_words() -> None:
    texts = Phrases.load().texts
    assert {"night_other", "night_store", "night_models", "night_backup"} <= texts.keys()


def test_what_is_erased_goes_from_the_backups_that_hold_it(run: Run[Any], state: Path) -> None:
    maintain(settings_of(state))
    [kept] = backups(state)
    earlier = kept.with_name("roomtone-kitchen-1-20260101-000000.tar.gz")
    earlier.write_bytes(kept.read_bytes())
    of_an_upgrade = kept.with_name("before-1.2.0-0123abcd-20260101-000000.tar.gz")
    of_an_upgrade.write_bytes(kept.read_bytes())
    aside = state / "before-restore-1" / FILE_NAME
    aside.parent.mkdir()
    aside.write_bytes((state / FILE_NAME).read_bytes())
    long_ago = time.time() - 10 * 24 * 3600
    os.utime(earlier, (long_ago, long_ago))

    async def main() -> None:
        async with open_store(state / FILE_NAME) as store:
            await store.erase(datetime.now(UTC) - timedelta(hours=1))
            assert backups(state) == [earlier]
            assert not aside.exists()
            assert not of_an_upgrade.exists()
            await store.erase()
            assert backups(state) == []

    run(main())
    assert line(maintain(settings_of(state)), "backup").ok
    assert len(backups(state)) == 1
