"""Every earlier version of the store, with what a household had in it, becomes the present one and loses nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from roomtone.core.dialog import Ended
from roomtone.database import PAGE_BYTES
from roomtone.migrations import STEPS, migrate
from roomtone.store import FILE_NAME, open_store

ODD = "Ö \U0001f9c2 'quoted\" \x00 ; DROP TABLE turns; -- \u202e\n"
LONG = "words " * 20_000

TURN = {
    "turn": 1,
    "trace": "t1",
    "session": "s1",
    "room": "kitchen",
    "persona": "companion",
    "source": "voice",
    "heard": ODD,
    "said": LONG,
    "at": "2026-05-01T10:00:00+00:00",
}
"""A turn as the first version wrote it: the fields that came later are not there."""

ROWS: Mapping[str, Mapping[str, list[tuple[Any, ...]]]] = {
    "0001 conversations": {
        "sessions": [
            ("s1", "kitchen", "companion", "2026-05-01T10:00:00+00:00", None),
            ("s2", ODD, "gone", "2026-05-01T12:00:00+02:00", "2026-05-01T11:00:00.5+00:00"),
        ],
        "messages": [
            ("m1", "s1", "user", ODD, "2026-05-01T10:00:00+00:00", "companion", "{}"),
            ("m2", "s1", "assistant", LONG, "2026-05-01T10:00:01+00:00", None, json.dumps({"odd": ODD})),
        ],
        "edges": [("m2", "m1"), ("m2", "never kept")],  # the second leads nowhere, and goes
        "turns": [
            ("s1", 1, "t1", "2026-05-01T10:00:00+00:00", "companion", 1, json.dumps(TURN)),
            (
                "s1",
                2,
                "t2",
                "2026-05-01T10:01:00+00:00",
                "companion",
                0,
                json.dumps({**TURN, "turn": 2, "trace": "t2"}),
            ),
        ],
    },
    "0002 timers": {
        "timers": [
            ("a", "", 60, "2026-05-01T10:00:00+00:00", "2026-05-01T10:01:00+00:00"),
            ("b", ODD, 1, "2026-05-01T10:00:00+00:00", "2999-01-01T00:00:00+00:00"),
        ]
    },
    "0003 alarms": {
        "timers": [
            ("c", "", 0, "2026-05-01T10:00:00+00:00", "2026-05-02T05:00:00+00:00", "alarm", "0 7 * * 1-5", None, 0),
            ("d", ODD, 0, "2026-05-01T10:00:00+00:00", "2026-05-01T12:00:00+00:00", "reminder", None, None, 1),
            ("e", "egg", 300, "2026-05-01T10:00:00+00:00", "2026-05-01T10:05:00+00:00", "timer", None, 200, 0),
        ],
        "stopwatch": [(1, json.dumps({"run_s": 12.5, "laps": [3.0]}))],
    },
    "0004 lists": {
        "items": [
            ("i1", "shopping", ODD, "2026-05-01T10:00:00+00:00", None),
            ("i2", "to-do", LONG, "2026-05-01T10:00:00+00:00", "2026-05-01T11:00:00+00:00"),
        ]
    },
    "0005 lean edges": {},
    "0006 personas": {
        "persona_versions": [("abc", "chef", "1", "2026-05-01T10:00:00+00:00", "2026-05-01T10:00:00+00:00", ODD)],
        "persona_switches": [
            (1, "2026-05-01T10:00:00+00:00", "kitchen", "companion", "chef", "abc", "voice", ODD, 12.5),
        ],
        "kept": [(key, json.dumps(key), "2026-05-01T10:00:00+00:00") for key in ("persona", ODD)],
    },
    "0007 minds": {
        "summaries": [("s1", "m1", "2026-05-01T10:00:00+00:00", ODD)],
        "llm_calls": [
            (
                1,
                "2026-05-01T10:00:00+00:00",
                "t1",
                "chef",
                "nas",
                "small",
                "answer",
                "ok",
                "",
                9,
                0,
                9,
                0.1,
                9.5,
                99.5,
            ),
        ],
        "sent": [(1, "2026-05-01T10:00:00+00:00", "t1", "chef", "nas.local", "lan", 999, "text", "answer")],
        "tool_runs": [("r1", "2026-05-01T10:00:00+00:00", "t1", "s1", "chef", "timer.set", "done", "{}")],
        "routine_runs": [("q1", "2026-05-01T10:00:00+00:00", None, "t1", "s1", "morning", "done", "{}")],
    },
    "0008 memories": {
        "memories": [
            (1, "f1", "fact", ODD, None, "2026-05-01T10:00:00+00:00", None, "t1", "drop table turns"),
            (2, "f2", "preference", LONG, "chef", "2026-05-01T10:00:00+00:00", "2999-01-01T00:00:00+00:00", "", "w"),
        ],
    },
    "0009 house": {
        "holds": [("s1", 3, "released", "h1", "2026-05-01T10:00:00+00:00", "{}")],
        "moves": [("s1", 3, "kitchen-1", "bedroom-1", "2026-05-01T10:00:00+00:00", "asked for")],
        "outbox": [(1, "o1", "2026-05-01T10:00:00+00:00", None, "a/topic", "{}")],
    },
}
"""What a household had when a step was the last one taken: rows as they are in that version."""


def old_store(file: Path, version: int) -> dict[str, int]:
    """Make a store as an earlier version left it; return how many rows each table has."""
    file.parent.mkdir(parents=True)
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA journal_mode = WAL")
    migrate(connection, STEPS[:version])
    counts: dict[str, int] = {}
    for step in STEPS[:version]:
        for table, rows in ROWS[step.name].items():
            counts[table] = counts.get(table, 0) + len(rows)
            for row in rows:
                places = ", ".join("?" * len(row))
                columns = [column for _, column, *_ in connection.execute(f"PRAGMA table_info({table})")][: len(row)]
                connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", row)
    connection.close()
    return counts


def test_every_step_has_rows_to_be_tried_with() -> None:
    assert [step.name for step in STEPS] == list(ROWS), "say what a household has after the new step"


@pytest.mark.parametrize("version", range(1, len(STEPS) + 1))
def test_an_earlier_store_is_read_whole(run: Run[Any], tmp_path: Path, version: int) -> None:
    file = tmp_path / "state" / FILE_NAME
    counts = old_store(file, version)

    async def scenario() -> None:
        async with open_store(file) as store:
            assert store.mended is None
            rows = [json.loads(line)["table"] async for line in store.export()]
            assert {table: rows.count(table) for table in counts} == {**counts, "edges": 1 if version < 5 else 2}
            first, second = await store.history()
            assert (first.heard, first.said, first.ended) == (ODD, LONG, Ended.COMPLETED)
            assert [turn.turn for turn in store.unfinished] == [2]
            assert second.ended is Ended.FAILED
            assert [message.text for message in await store.ancestry("m2")] == [ODD, LONG]
            assert (await store.node("m2")).parents[:1] == ("m1",)
            assert [session.id for session in await store.sessions()] == ["s1", "s2"]
            timers = {timer.id: timer for timer in await store.timers()}
            assert timers.keys() == set("ab"[: 2 * (version >= 2)]) | set("cde"[: 3 * (version >= 3)])
            if version >= 2:
                assert (timers["b"].name, timers["b"].due.year) == (ODD, 2999)
            if version >= 3:
                assert (await store.stopwatch()).laps == [3.0]
            if version >= 4:
                assert [item.text for item in await store.items()] == [ODD, LONG]

    run(scenario())


@pytest.mark.parametrize("version", range(len(STEPS) + 1))
def test_an_earlier_store_has_the_present_schema_afterwards(run: Run[Any], tmp_path: Path, version: int) -> None:
    def schema(file: Path) -> set[tuple[str, str]]:
        connection = sqlite3.connect(file)
        columns = connection.execute(
            "SELECT m.name, c.name || c.type || c.pk || c.[notnull] FROM sqlite_master m, pragma_table_info(m.name) c"
        )
        found = set(columns)
        connection.close()
        return found

    async def opened(file: Path) -> None:
        async with open_store(file) as store:
            await store.history()

    old, new = tmp_path / "old" / FILE_NAME, tmp_path / "new" / FILE_NAME
    if version:
        old_store(old, version)
    run(opened(old))
    run(opened(new))
    assert schema(old) == schema(new)


@pytest.mark.parametrize("version", range(1, len(STEPS)))
def test_a_step_that_is_killed_is_taken_again(run: Run[Any], tmp_path: Path, version: int) -> None:
    file = tmp_path / "state" / FILE_NAME
    counts = old_store(file, version)

    def failing(step: Callable[[Any], None]) -> Callable[[Any], None]:
        def half(db: Any) -> None:
            step(db)
            raise KeyboardInterrupt

        return half

    *before, last = STEPS[: version + 1]
    connection = sqlite3.connect(file, isolation_level=None)
    with pytest.raises(KeyboardInterrupt):
        migrate(connection, (*before, last._replace(take=failing(last.take))))
    connection.close()

    async def scenario() -> None:
        async with open_store(file) as store:
            rows = [json.loads(line)["table"] async for line in store.export()]
            assert {table: rows.count(table) for table in counts} == {**counts, "edges": 1 if version < 5 else 2}

    run(scenario())
