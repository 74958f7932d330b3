"""The store: what was said survives power cuts, full disks and damage."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Run
from roomtone.clock import run_skipping
from roomtone.core.dialog import Ended, Message, Role, Session, Source, Timer, Turn
from roomtone.core.errors import StoreError
from roomtone.migrations import STEPS, Step, migrate
from roomtone.store import FILE_NAME, Store, open_store

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / FILE_NAME


@pytest.fixture
def in_store(run: Run[Any], file: Path) -> Callable[[Callable[[Store], Awaitable[Any]]], Any]:
    """Open the store, do something with it, close it."""

    def do(what: Callable[[Store], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            async with open_store(file) as store:
                return await what(store)

        return run(main())

    return do


InStore = Callable[[Callable[[Store], Awaitable[Any]]], Any]


def turn(number: int = 1, **more: Any) -> Turn:
    fixed: dict[str, Any] = {"trace": "t", "session": "s", "room": "kitchen", "persona": "companion", "at": NOON}
    return Turn(turn=number, source=Source.VOICE, **{**fixed, **more})


def message(id_: str, minute: int = 0, text: str = "hello") -> Message:
    return Message(id=id_, session="s", role=Role.PERSON, text=text, at=NOON + timedelta(minutes=minute))


def timer(minutes: int, name: str = "") -> Timer:
    return Timer(name=name, seconds=minutes * 60, set_at=NOON, due=NOON + timedelta(minutes=minutes))


# --------------------------------------------------------------------------------------- conversations


def test_a_turn_is_written_early_brought_up_to_date_and_closed(in_store: InStore) -> None:
    async def what(store: Store) -> None:
        begun = turn(heard="what time is it")
        heard = begun.model_copy(update={"said": "Noon. Exactly.", "spoken": "Noon."})
        await store.save_turn(begun, closed=False)
        assert await store.last_turn("s") is None
        await store.save_turn(heard, closed=False)
        await store.save_turn(heard, closed=True)
        assert await store.last_turn("s") == heard
        assert await store.history() == [heard]

    in_store(what)


def test_the_last_turn_is_the_last_in_which_something_was_heard(in_store: InStore) -> None:
    async def what(store: Store) -> Turn | None:
        for each in (turn(1, heard="hello"), turn(2, heard=""), turn(1, session="other", heard="no")):
            await store.save_turn(each, closed=True)
        return await store.last_turn("s")

    assert in_store(what).heard == "hello"


def test_history_is_the_last_turns_the_oldest_first(in_store: InStore) -> None:
    async def what(store: Store) -> tuple[list[Turn], list[Turn]]:
        for number in range(1, 6):
            await store.save_turn(turn(number, session="even" if number % 2 == 0 else "odd"), closed=True)
        return await store.history(2), await store.history(9, "even")

    lately, even = in_store(what)
    assert [each.turn for each in lately] == [4, 5]
    assert [each.turn for each in even] == [2, 4]


def test_a_message_with_two_parents_follows_from_both(in_store: InStore) -> None:
    async def what(store: Store) -> list[Message]:
        await store.add_message(message("root"))
        await store.save_turn(turn(), closed=True, messages=[(message("left", 1), ["root"])])
        await store.add_message(message("right", 2), ["root"])
        await store.add_message(message("unrelated", 3))
        await store.add_message(message("join", 4), ["left", "right"])
        return await store.ancestry("join")

    assert [each.id for each in in_store(what)] == ["root", "left", "right", "join"]


def test_a_session_keeps_its_end(in_store: InStore) -> None:
    session = Session(id="s", room="kitchen", persona="companion", started=NOON)
    over = session.model_copy(update={"ended": NOON + timedelta(minutes=5)})

    async def what(store: Store) -> list[Session]:
        await store.save_session(session)
        await store.save_session(over)
        return await store.sessions()

    assert in_store(what) == [over]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 4), st.text(max_size=20), st.booleans()), max_size=12))
def test_history_holds_the_newest_of_every_turn_however_often_saved(saves: list[tuple[int, str, bool]]) -> None:
    async def main(folder: Path) -> None:
        newest: dict[int, Turn] = {}
        async with open_store(folder / FILE_NAME) as store:
            for number, heard, closed in saves:
                newest[number] = turn(number, heard=heard)
                await store.save_turn(newest[number], closed=closed)
            kept = await store.history()
        assert {each.turn: each for each in kept} == newest
        assert [each.turn for each in kept] == list(newest)

    with tempfile.TemporaryDirectory() as folder:
        run_skipping(main(Path(folder)))


# --------------------------------------------------------------------------------------------- timers


def test_timers_come_next_first_and_leave_when_rung_or_cancelled(in_store: InStore) -> None:
    pasta, tea, cake = timer(9, "pasta"), timer(3, "tea"), timer(40, "cake")

    async def what(store: Store) -> list[Timer]:
        for each in (pasta, tea, cake):
            await store.save_timers([each])
        assert await store.timers() == [tea, pasta, cake]
        await store.save_timers([pasta], remove=[tea])
        await store.cancel_timers([cake])
        return await store.timers()

    assert in_store(what) == [pasta]


def test_what_was_promised_is_committed_in_full_and_the_rest_is_not(in_store: InStore) -> None:
    async def what(store: Store) -> None:
        async def synchronous() -> int:
            return int(await store._run(lambda connection: connection.execute("PRAGMA synchronous").fetchone()[0]))

        for write, level in (
            (store.save_timers([timer(1)]), 2),
            (store.save_turn(turn(), closed=True), 1),
            (store.cancel_timers([timer(2)]), 2),
        ):
            await write
            assert await synchronous() == level

    in_store(what)


# ------------------------------------------------------------------------------- power cuts and damage

KILLED = """
import asyncio, os, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from roomtone.core.dialog import Timer, Turn
from roomtone.store import open_store

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        turn = Turn(turn=1, trace="t", session="s", room="r", persona="p", source="voice", heard="a timer please")
        await store.save_turn(turn, closed=False)
        await store.save_timers([Timer(name="pasta", seconds=60, due=datetime.now(UTC) + timedelta(seconds=60))])
        os._exit(9)

asyncio.run(main())
"""


def test_a_killed_process_leaves_its_turn_and_its_timer(in_store: InStore, file: Path) -> None:
    assert subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False).returncode == 9

    async def what(store: Store) -> tuple[tuple[Turn, ...], list[Turn], list[Timer]]:
        return store.unfinished, await store.history(), await store.timers()

    unfinished, history, timers = in_store(what)
    assert [each.heard for each in unfinished] == ["a timer please"]
    assert history == list(unfinished)
    assert (history[0].ended, history[0].error.code) == (Ended.FAILED, "STOPPED")
    assert [each.name for each in timers] == ["pasta"]
    assert in_store(what)[0] == ()


def fill(store: Store) -> Awaitable[None]:
    return store.save_turn(turn(1, heard="secret words " * 2000), closed=True)


@pytest.mark.parametrize("damage", ["header", "middle", "schema"])
def test_a_damaged_store_is_set_aside_whole_and_a_new_one_begun(in_store: InStore, file: Path, damage: str) -> None:
    in_store(fill)
    content = bytearray(file.read_bytes())
    where = {"header": slice(0, 100), "middle": slice(len(content) // 2, len(content)), "schema": slice(100, 2000)}
    part = where[damage]
    content[part] = b"\xa5" * len(content[part])
    file.write_bytes(content)

    async def what(store: Store) -> str | None:
        assert await store.history() == []
        await fill(store)
        return store.mended

    mended = in_store(what)
    (aside,) = file.parent.glob(f"{FILE_NAME}.corrupt-*")
    assert aside.read_bytes() == content
    assert str(aside) in mended

    async def whole(store: Store) -> int:
        assert store.mended is None
        return len(await store.history())

    assert in_store(whole) == 1


def test_what_belongs_to_a_damaged_store_is_set_aside_with_it(in_store: InStore, file: Path) -> None:
    file.parent.mkdir()
    for suffix in ("", "-wal", "-shm"):
        file.with_name(FILE_NAME + suffix).write_bytes(b"not a database" * 99)

    async def what(store: Store) -> str | None:
        return store.mended

    assert in_store(what)
    aside = sorted(path.name[len(FILE_NAME) + 1 :].partition("-")[0] for path in file.parent.glob("*.corrupt-*"))
    assert "corrupt" in aside
    assert file.with_name(FILE_NAME).exists()


def test_a_full_disk_is_one_clear_line_and_the_next_write_works_once_there_is_room(
    in_store: InStore, file: Path
) -> None:
    async def what(store: Store) -> None:
        async def pages(most: int) -> None:
            await store._run(lambda connection: connection.execute(f"PRAGMA max_page_count = {most}").fetchone())

        await store.save_timers([timer(1, "before")])
        await pages(1)
        with pytest.raises(StoreError) as caught:
            await fill(store)
        assert caught.value.message == f"the disk with {file} is full; make room there, for example: sudo apt clean"
        assert len(await store.timers()) == 1
        await pages(10_000)
        await fill(store)
        assert len(await store.history()) == 1

    in_store(what)


def test_a_store_of_a_newer_version_is_refused_and_left_as_it_is(in_store: InStore, file: Path) -> None:
    in_store(fill)
    with sqlite3.connect(file) as connection:
        connection.execute("INSERT INTO migrations (name, taken) VALUES ('9999 thoughts', '2030')")
    connection.close()
    with pytest.raises(StoreError, match="newer Roomtone; upgrade this one"):
        in_store(fill)
    assert list(file.parent.glob("*.corrupt-*")) == []


def test_a_folder_in_the_stores_place_is_one_clear_line(in_store: InStore, file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot be opened"):
        in_store(fill)


# --------------------------------------------------------------------------------- migrations and care


def test_each_step_is_taken_once_and_a_failing_one_leaves_nothing_behind() -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    taken: list[str] = []
    one, two = Step("1", lambda db: taken.append("1")), Step("2", lambda db: taken.append("2"))

    def broken(db: Any) -> None:
        db.table("half").create({"id": int})
        raise ZeroDivisionError

    migrate(connection, (one,))
    with pytest.raises(ZeroDivisionError):
        migrate(connection, (one, two, Step("3", broken)))
    migrate(connection, (one, two))
    assert taken == ["1", "2", "2"]
    assert connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'half'").fetchone() == (0,)
    connection.close()


def test_steps_are_numbered_in_order() -> None:
    assert [step.name[:4] for step in STEPS] == [f"{number:04}" for number in range(1, len(STEPS) + 1)]


def test_idle_time_and_reading_write_nothing(in_store: InStore, file: Path) -> None:
    def state() -> list[tuple[str, int, int]]:
        return sorted((each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in file.parent.glob("*db*"))

    async def what(store: Store) -> None:
        await fill(store)
        before = [each for each in state() if not each[0].endswith("-shm")]
        await store.history()
        await store.last_turn("s")
        await store.timers()
        assert [each for each in state() if not each[0].endswith("-shm")] == before

    in_store(what)


def test_an_ordinary_turn_costs_a_handful_of_pages(in_store: InStore, file: Path) -> None:
    async def what(store: Store) -> int:
        log = file.with_name(FILE_NAME + "-wal")
        said = "Nine minutes for the pasta, starting now. I will tell you."
        session = Session(id="s", room="kitchen", persona="companion")
        for number in range(1, 20):
            before = log.stat().st_size
            each = turn(number, trace=f"t{number}", heard="set a pasta timer for nine minutes", said=said)
            question, answer = (message(f"q{number}"), [f"a{number - 1}"]), (message(f"a{number}"), [f"q{number}"])
            await store.save_turn(each, closed=False, session=session)
            await store.save_turn(each, closed=False, session=session, messages=[question], durable=True)
            await store.save_timers([timer(number)])
            await store.save_turn(each.model_copy(update={"spoken": said}), closed=False, durable=True)
            await store.save_turn(each, closed=True, session=session, messages=[question, answer])
        return log.stat().st_size - before

    assert in_store(what) <= 32 * 1024


def test_nobody_else_may_read_the_store(in_store: InStore, file: Path) -> None:
    in_store(fill)
    assert file.stat().st_mode & 0o077 == 0
    assert file.parent.stat().st_mode & 0o077 == 0


def test_what_is_erased_is_in_no_file_any_more(in_store: InStore, file: Path) -> None:
    in_store(fill)
    file.with_name(f"{FILE_NAME}.corrupt-x").write_bytes(file.read_bytes())

    async def what(store: Store) -> list[Timer]:
        await fill(store)
        await store.save_timers([timer(5)])
        await store.erase()
        assert await store.history() == []
        assert not any(b"secret words" in each.read_bytes() for each in file.parent.iterdir())
        return await store.timers()

    assert len(in_store(what)) == 1


@pytest.mark.parametrize("killed_at", ["DELETE FROM turns", "COMMIT", "VACUUM", "PRAGMA user_version = 0"])
def test_an_erasure_that_is_killed_is_whole_or_was_none_and_no_byte_stays(
    in_store: InStore, file: Path, killed_at: str
) -> None:
    in_store(fill)
    program = [sys.executable, "-c", ERASING, str(file), killed_at]
    assert subprocess.run(program, check=False).returncode == 9

    async def what(store: Store) -> list[Turn]:
        return await store.history()

    erased = killed_at in ("VACUUM", "PRAGMA user_version = 0")
    assert len(in_store(what)) == (0 if erased else 1)
    assert any(b"secret words" in each.read_bytes() for each in file.parent.iterdir()) == (not erased)


ERASING = """
import asyncio, os, sqlite3, sys
from pathlib import Path
from roomtone import database
from roomtone.store import open_store

class Deadly:
    def __init__(self, connection):
        self.connection = connection
    def execute(self, statement, values=()):
        if statement.startswith(sys.argv[2]):
            os._exit(9)
        return self.connection.execute(statement, values)
    def __getattr__(self, name):
        return getattr(self.connection, name)

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        erase = database.erase
        shrink = database.shrink
        database.erase = lambda connection, which: erase(Deadly(connection), which)
        database.shrink = lambda connection: shrink(Deadly(connection))
        await store.erase()

asyncio.run(main())
"""


def test_everything_is_exported_as_json_lines(in_store: InStore) -> None:
    async def what(store: Store) -> list[dict[str, Any]]:
        await store.save_session(Session(id="s", room="kitchen", persona="companion", started=NOON))
        await store.save_turn(turn(), closed=True, messages=[(message("a"), []), (message("b"), ["a"])])
        await store.save_timers([timer(1)])
        return [json.loads(line) async for line in store.export()]

    rows = in_store(what)
    assert [row["table"] for row in rows] == ["sessions", "messages", "messages", "edges", "turns", "timers"]
    assert rows[3] == {"table": "edges", "child": "b", "parent": "a"}
