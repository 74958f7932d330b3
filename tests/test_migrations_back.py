"""An older program finds a newer one's store: it works with it, and nothing is lost when the newer one returns."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Run
from roomtone import database
from roomtone.core.errors import StoreError
from roomtone.hub import database as hub
from roomtone.migrations import STEPS, Step, Steps, erasing, migrate
from roomtone.store import FILE_NAME, open_store
from test_migrations import old_store

BACK_TO = [number for number in range(1, len(STEPS)) if all(step.back for step in STEPS[number:])]
"""How many steps older programs know to whose schema there is a way back."""


def contents(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row of every table but the ledger's and the index of words, which is made anew."""
    with closing(sqlite3.connect(file)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        kept = [name for name in tables if name != "migrations" and not name.startswith(("memory_index", "sqlite_"))]
        return {name: sorted(map(tuple, connection.execute(f"SELECT * FROM {name}")), key=repr) for name in kept}


def shape(file: Path) -> set[tuple[str, ...]]:
    """Return all columns of all tables, and what else there is."""
    with closing(sqlite3.connect(file)) as connection:
        columns = "SELECT m.name, c.name || c.type || c.pk FROM sqlite_master m, pragma_table_info(m.name) c"
        rest = "SELECT type, name FROM sqlite_master WHERE type != 'table'"
        return {*connection.execute(columns), *connection.execute(rest)}


def taken_to(file: Path, steps: Steps) -> None:
    """Open a store as a program does that knows these steps."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        migrate(connection, steps)


def test_the_last_release_can_always_be_gone_back_to() -> None:
    assert len(STEPS) - 1 in BACK_TO, "give the new step a way back"


@pytest.mark.parametrize("known", BACK_TO)
def test_an_older_program_finds_the_schema_it_knows_and_the_newer_one_finds_everything_again(
    tmp_path: Path, known: int
) -> None:
    file, older = tmp_path / "new" / FILE_NAME, tmp_path / "old" / FILE_NAME
    old_store(file, len(STEPS))
    before, whole = contents(file), shape(file)
    old_store(older, known)
    taken_to(file, STEPS[:known])
    assert {line for line in shape(file) if "kept_" not in line[0]} >= shape(older)
    taken_to(file, STEPS)
    assert contents(file) == before
    assert shape(file) == whole


@pytest.mark.parametrize("known", BACK_TO)
def test_what_the_older_program_writes_stands_beside_it(run: Run[Any], tmp_path: Path, known: int) -> None:
    file = tmp_path / "state" / FILE_NAME
    old_store(file, len(STEPS))
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE timers SET session = 's1', person = 'Anna' WHERE id IN ('a', 'b')")
    taken_to(file, STEPS[:known])
    with closing(sqlite3.connect(file)) as connection, connection:
        older = ("set by the older", "", 9, "2026-06-01T10:00:00+00:00", "2999-06-01T10:00:00+00:00")
        connection.execute("INSERT INTO timers VALUES (?, ?, ?, ?, ?, 'timer', NULL, NULL, 0)", older)
        connection.execute("DELETE FROM timers WHERE id = 'a'")
        row = ("m3", "s1", "user", "said to the older", "2026-06-01T10:00:00+00:00", "companion", "{}")
        connection.execute("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", row)

    async def main() -> None:
        async with open_store(file) as store:
            timers = {timer.id: timer for timer in await store.timers()}
            assert (timers["b"].session, timers["b"].person) == ("s1", "Anna")
            assert timers["set by the older"].session == ""
            assert "a" not in timers
            assert (await store.node("m3")).message.text == "said to the older"
            found = await store.read("SELECT rowid FROM memory_index WHERE memory_index MATCH 'drop'")
            assert [row["rowid"] for row in found] == [1]

    run(main())


TEXT = st.text(max_size=40)
MOMENT = st.datetimes().map(lambda at: at.isoformat())


@given(
    timers=st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=5, unique_by=lambda timer: timer[0]),
    facts=st.lists(st.tuples(TEXT, st.none() | TEXT), max_size=5, unique_by=lambda fact: (fact[0], fact[1] or "")),
    waiting=st.lists(TEXT, max_size=5),
)
@settings(max_examples=25)
def test_whatever_a_household_has_goes_back_and_forth(
    timers: list[tuple[str, str, str]], facts: list[tuple[str, str | None]], waiting: list[str]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE_NAME
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            migrate(connection)
            at = "2026-05-01T10:00:00+00:00"
            for id_, session, person in timers:
                row = (id_, "", 1, at, at, session, person)
                places = "(id, name, seconds, set_at, due, session, person) VALUES (?,?,?,?,?,?,?)"
                connection.execute(f"INSERT INTO timers {places}", row)
            for number, (text, whose) in enumerate(facts):
                row = (number, str(number), "fact", text, whose, at, None, "", text)
                connection.execute("INSERT INTO memories VALUES (?,?,?,?,?,?,?,?,?)", row)
                connection.execute("INSERT INTO memory_vectors VALUES (?, 'e', x'01', x'02')", (number,))
            for text in waiting:
                connection.execute(
                    "INSERT INTO outbox VALUES (NULL, hex(randomblob(8)), ?, NULL, 't', ?)", (at, text)
                )
        before = contents(file)
        for known in (*BACK_TO, len(STEPS)):
            taken_to(file, STEPS[:known])
            taken_to(file, STEPS)
        assert contents(file) == before


def test_numbers_of_memories_and_of_what_waits_are_never_given_twice(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    taken_to(file, STEPS)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO outbox VALUES (41, 'o', '', NULL, '', '')")
        connection.execute("DELETE FROM outbox")
    taken_to(file, STEPS[: BACK_TO[0]])
    taken_to(file, STEPS)
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO outbox VALUES (NULL, 'p', '', NULL, '', '')")
        assert connection.execute("SELECT number FROM outbox").fetchall() == [(42,)]


@pytest.mark.parametrize("back", [True, False], ids=["going back", "coming again"])
def test_a_power_cut_at_any_statement_leaves_the_one_or_the_other(tmp_path: Path, back: bool) -> None:
    """Copies the files before each statement, as a cut would leave them, and opens every copy with both programs."""
    file, older = tmp_path / "state" / FILE_NAME, STEPS[: BACK_TO[0]]
    old_store(file, len(STEPS))
    before = contents(file)
    if not back:
        taken_to(file, older)
    cuts: list[Path] = []

    def cut(_: str) -> None:
        cuts.append(tmp_path / f"cut-{len(cuts)}")
        shutil.copytree(file.parent, cuts[-1])

    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA cache_size = 1")  # so that what is not committed reaches the file too
        connection.set_trace_callback(cut)
        migrate(connection, older if back else STEPS)
        connection.set_trace_callback(None)
    assert len(cuts) > 10
    for folder in cuts:
        for steps in (older, STEPS):
            taken_to(folder / FILE_NAME, steps)
        assert contents(folder / FILE_NAME) == before


def _broken(steps: Steps, *back: str) -> Steps:
    return (*steps, Step("9999 thoughts", lambda db: db.execute("CREATE TABLE thoughts (id)"), back))


def test_a_way_back_that_fails_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    newer = _broken(STEPS, "ALTER TABLE thoughts RENAME TO kept_thoughts", "DROP TABLE there_is_none")
    taken_to(file, newer)
    before = shape(file)
    with pytest.raises(sqlite3.OperationalError, match="there_is_none"):
        taken_to(file, STEPS)
    assert shape(file) == before
    taken_to(file, newer)


@pytest.mark.parametrize("which", ["without a way back", "under what is known"])
def test_what_cannot_be_undone_is_refused_and_left_as_it_is(tmp_path: Path, which: str) -> None:
    file, strange = tmp_path / FILE_NAME, Step("0000 another branch", lambda db: None, ("SELECT 1",))
    taken_to(file, _broken(STEPS) if which == "without a way back" else (strange, *STEPS))
    before = contents(file)
    with pytest.raises(StoreError, match="newer Roomtone; upgrade this one"):
        taken_to(file, STEPS)
    assert contents(file) == before


def test_what_is_erased_under_the_older_program_is_not_there_when_the_newer_one_returns(tmp_path: Path) -> None:
    file = tmp_path / "state" / FILE_NAME
    old_store(file, len(STEPS))
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE memories SET level = 'summary' WHERE id = 'f2'")
    noted = Step(
        "9999 thoughts",
        lambda db: db.execute("CREATE TABLE IF NOT EXISTS thoughts AS SELECT 'what was said' AS text, '2030' AS at"),
        ("ALTER TABLE thoughts RENAME TO kept_thoughts",),
        ("DELETE FROM kept_thoughts WHERE at >= :since",),
    )
    taken_to(file, (*STEPS, noted))
    connection, _ = database.opened(file)
    with closing(connection):
        assert database.erase(connection, {"since": "2026", "spare": ""}) == 2
        database.shrink(connection)
    assert b"what was said" not in file.read_bytes()
    assert contents(file)["kept_thoughts"] == []
    assert [row[1] for row in contents(file)["memories"]] == ["f1"]


LEDGERS = st.one_of(
    st.none(),
    st.text(max_size=20),
    st.lists(st.one_of(st.integers(), st.text(max_size=20)), max_size=3).map(json.dumps),
    st.sampled_from(
        ['["ATTACH \'{}\' AS other", "CREATE TABLE other.t (x)"]', "[\"VACUUM INTO '{}'\"]", '["COMMIT"]']
    ),
    st.sampled_from(["[\"/**/ATTACH '{}' AS other\"]", "[\"DELETE FROM items; ATTACH '{}' AS other\"]", "[" * 9000]),
)


@settings(max_examples=60)
@given(back=LEDGERS, erase=LEDGERS)
def test_whatever_stands_in_the_ledger_of_a_store_from_elsewhere_changes_nothing_but_that_store(
    back: str | None, erase: str | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file, other = Path(folder) / "state" / FILE_NAME, Path(folder) / "other"
        old_store(file, len(STEPS))
        with closing(sqlite3.connect(file, isolation_level=None)) as connection:
            ways = [way if way is None else way.replace("{}", str(other)) for way in (back, erase)]
            connection.execute("INSERT INTO migrations (name, taken, back, erase) VALUES ('0099', '', ?, ?)", ways)
            try:
                migrate(connection)
                for statement in erasing(connection):
                    connection.execute(statement)
            except (StoreError, sqlite3.Error, sqlite3.Warning):
                assert not connection.in_transaction
        assert sorted(path for path in Path(folder).rglob("*") if path.is_file()) == [file]


def test_a_store_of_before_there_were_ways_back_gets_them_once(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    taken_to(file, STEPS)
    with closing(sqlite3.connect(file)) as connection, connection:
        for column in ("back", "erase", "undone"):
            connection.execute(f"ALTER TABLE migrations DROP COLUMN {column}")
    taken_to(file, STEPS)
    written = file.read_bytes()
    taken_to(file, STEPS)
    assert file.read_bytes() == written
    taken_to(file, STEPS[:-1])


def lines(file: Path) -> Iterator[Any]:
    with closing(sqlite3.connect(file)) as connection:
        yield from connection.execute("SELECT name, back, undone FROM migrations ORDER BY rowid")


def test_the_ledger_says_what_is_undone_and_how(tmp_path: Path) -> None:
    file = tmp_path / FILE_NAME
    taken_to(file, STEPS)
    taken_to(file, STEPS[:-1])
    *_, (name, back, undone) = lines(file)
    assert name == STEPS[-1].name
    assert tuple(json.loads(back)) == STEPS[-1].back
    assert undone
    taken_to(file, STEPS)
    assert [undone for *_, undone in lines(file)] == [None] * len(STEPS)


def test_an_older_hub_opens_what_a_newer_one_wrote(run: Run[Any], tmp_path: Path) -> None:
    file = tmp_path / "hub.db"
    newer = Step(
        "0002 floors",
        lambda db: db.execute("ALTER TABLE devices ADD COLUMN floor TEXT"),
        (
            "CREATE TABLE kept_devices AS SELECT id, floor FROM devices WHERE floor IS NOT NULL",
            "ALTER TABLE devices DROP COLUMN floor",
        ),
    )
    taken_to(file, (*hub.STEPS, newer))
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO devices (id, floor) VALUES ('bath', 'first')")

    async def main() -> list[tuple[Any, ...]]:
        async with hub.open_database(file) as opened:
            return await opened.read(lambda db: [tuple(row) for row in db.execute("SELECT * FROM devices")])

    assert run(main()) == [("bath", *[None] * 9)]
    assert contents(file)["kept_devices"] == [("bath", "first")]
