"""What language models were asked and what that cost: nothing is lost, and nobody waits for it to be written."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Run
from roomtone.clock import SkippingLoop, run_skipping, utc_now
from roomtone.core.dialog import Tokens
from roomtone.core.errors import UsageError
from roomtone.flow import beside, task_group
from roomtone.outbound import accounts
from roomtone.outbound.accounts import BY, KEPT, Accounts, Call
from roomtone.outbound.ledger import OWED, SETTLE_S, Ledger
from roomtone.store import FILE_NAME, Store, open_store

BERLIN = ZoneInfo("Europe/Berlin")
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


def call(at: datetime, provider: str = "house", **more: Any) -> Call:
    return Call(at, provider, "llama3.2", **{"tokens": Tokens(read=100, cached=60, written=10, cost=0.25), **more})


async def rows(store: Store) -> int:
    [row] = await store.read("SELECT count(*) AS count FROM llm_calls")
    return int(row["count"])


def test_a_call_is_written_behind_and_all_of_a_turn_in_one_commit(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            books = Accounts(ledger, BERLIN)
            async with beside(ledger.run(), "ledger"):
                books.note(call(utc_now(), trace="t", status="failed", error="no answer"))
                await asyncio.sleep(SETTLE_S / 2)
                books.note(call(utc_now(), "pi", trace="t", first_piece_ms=12.5, total_ms=90.0))
                assert await rows(store) == 0
                await asyncio.sleep(SETTLE_S + 0.1)
                assert await rows(store) == 2
                before = (tmp_path / f"{FILE_NAME}-wal").stat().st_size
                await asyncio.sleep(3600)
                assert (tmp_path / f"{FILE_NAME}-wal").stat().st_size == before, "idle time writes nothing"
                books.note(call(utc_now()))
            assert await rows(store) == 3, "what was noted last is written at the end"
            [failed, good] = await store.read("SELECT * FROM llm_calls WHERE trace = 't' ORDER BY id")
            assert (failed["status"], failed["error"], failed["first_piece_ms"]) == ("failed", "no answer", None)
            assert (good["provider"], good["model"], good["why"]) == ("pi", "llama3.2", "answer")
            assert (good["read"], good["cached"], good["written"], good["cost"]) == (100, 60, 10, 0.25)
            assert (good["first_piece_ms"], good["total_ms"]) == (12.5, 90.0)

    run(scene())


def test_what_the_disk_refuses_is_written_once_it_can_be_and_costs_no_turn(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            books = Accounts(ledger, BERLIN)
            books.note(call(utc_now(), trace="first"))
            await store.close()
            await ledger.flush()
            books.note(call(utc_now(), trace="second"))
            await store.open()
            found = await ledger.read("SELECT trace FROM llm_calls ORDER BY id")
            assert [row["trace"] for row in found] == ["first", "second"]
            await store.close()
            for number in range(OWED + 50):
                books.note(call(utc_now(), trace=f"{number}"))
            await ledger.flush()
            books.note(call(utc_now(), trace="last"))
            await store.open()
            found = await ledger.read("SELECT trace FROM llm_calls ORDER BY id")
            kept = [f"{number}" for number in range(51, OWED + 50)]
            assert [row["trace"] for row in found] == ["first", "second", *kept, "last"], "the oldest are given up"

    run(scene())


def test_what_can_be_written_nowhere_costs_no_other_row_and_not_the_room(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            books = Accounts(ledger, BERLIN)
            async with beside(ledger.run(), "ledger"):
                books.note(call(utc_now()))
                books.note(call(utc_now(), tokens=Tokens(read=10**30)))
                books.note(call(utc_now(), error="half a letter: \ud83d"))
                books.note(call(utc_now()))
                await asyncio.sleep(SETTLE_S + 0.1)
                assert await rows(store) == 2

    run(scene())


def test_today_is_the_households_day_and_is_known_after_a_restart(tmp_path: Path) -> None:
    async def scene() -> None:
        loop = skipping()
        loop.set_clock(datetime(2026, 11, 21, 23, 30, tzinfo=BERLIN).astimezone(UTC))
        async with open_store(tmp_path / FILE_NAME) as store:
            books = Accounts(Ledger(store), BERLIN)
            books.note(call(utc_now() - timedelta(days=1)))
            books.note(call(utc_now() - timedelta(hours=23)))
            books.note(call(utc_now(), "pi"))
            assert await books.today("house") == Tokens(read=100, cached=60, written=10, cost=0.25)
            books.note(call(utc_now()))
            assert (await books.today("house")).written == 20
            assert await books.today("nobody") == Tokens()
            again = Accounts(Ledger(store), BERLIN)
            assert (await again.today("house")).written == 10, "what is not written yet is another's to know"
            await books._ledger.flush()
            assert (await Accounts(Ledger(store), BERLIN).today("house")).written == 20
            loop.skip(3600)
            assert await books.today("house") == Tokens(), "midnight has passed"

    run_skipping(scene(), counts_work=False)


def skipping() -> SkippingLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SkippingLoop)
    return loop


def test_what_is_older_than_is_kept_goes_with_a_new_day(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            for age in (KEPT + timedelta(days=1), KEPT - timedelta(days=1)):
                Accounts(ledger, BERLIN).note(call(utc_now() - age))
            await ledger.flush()
            assert await rows(store) == 2
            Accounts(ledger, BERLIN).note(call(utc_now()))
            await ledger.flush()
            assert await rows(store) == 2, "also where no provider has a limit a day"

    run(scene())


def test_a_call_that_ends_while_the_day_is_added_up_counts_too(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store, task_group() as group:
            books = Accounts(Ledger(store), BERLIN)
            adding = group.create_task(books.today("house"))
            await asyncio.sleep(0)
            books.note(call(utc_now()))
            await adding
            assert (await books.today("house")).written == 10

    run(scene())


@pytest.mark.parametrize(
    ("by", "found"),
    [
        (("provider",), [(("claude",), 1), (("house",), 3)]),
        (("day",), [(("2026-03-28",), 1), (("2026-03-29",), 3)]),
        (("provider", "day"),
         [(("claude", "2026-03-29"), 1), (("house", "2026-03-28"), 1), (("house", "2026-03-29"), 2)]),
        (("trace",), [(("",), 2), (("t",), 2)]),
        (("status", "persona"), [(("failed", "companion"), 1), (("ok", "companion"), 3)]),
    ],
)  # fmt: skip
def test_calls_are_added_up_by_day_provider_and_turn(
    run: Run[None], tmp_path: Path, by: tuple[str, ...], found: list[tuple[tuple[str, ...], int]]
) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            books = Accounts(Ledger(store), BERLIN)
            night = datetime(2026, 3, 28, 22, 59, 59, tzinfo=UTC)  # a second before midnight; the clocks change then
            for late, provider, more in (
                (0, "house", {}),
                (1, "house", {"trace": "t", "status": "failed"}),
                (2, "claude", {"trace": "t"}),
                (23 * 3600, "house", {}),
            ):
                books.note(call(night + timedelta(seconds=late), provider, persona="companion", **more))
            sums = await books.totals(night, by)
            assert [(each.of, each.calls) for each in sums] == found
            assert sum(each.failed for each in sums) == 1
            assert await books.totals(night + timedelta(days=2), by) == []

    run(scene())


CALLS = st.lists(
    st.builds(
        Call,
        st.integers(0, 365 * 86_400).map(lambda seconds: LONG_AGO + timedelta(seconds=seconds)),
        st.sampled_from(["house", "pi"]),
        st.just("m"),
        status=st.sampled_from(["ok", "failed", "stalled"]),
        tokens=st.builds(Tokens, read=st.integers(0, 9999), written=st.integers(0, 9999)),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(CALLS, st.lists(st.sampled_from(BY), max_size=3, unique=True))
def test_however_calls_are_added_up_none_is_lost_and_none_counted_twice(calls: list[Call], by: list[str]) -> None:
    async def scene(folder: Path) -> None:
        async with open_store(folder / FILE_NAME) as store:
            books = Accounts(Ledger(store), BERLIN)
            for each in calls:
                books.note(each)
            sums = await books.totals(LONG_AGO, by or ["day"])
            assert len({each.of for each in sums}) == len(sums)
            assert sum(each.calls for each in sums) == len(calls)
            assert sum(each.failed for each in sums) == sum(each.status != "ok" for each in calls)
            assert sum((each.tokens for each in sums), Tokens()) == sum((each.tokens for each in calls), Tokens())

    with tempfile.TemporaryDirectory() as folder:
        run_skipping(scene(Path(folder)), counts_work=False)


def test_costs_are_told_to_who_asks(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            Accounts(ledger, BERLIN).note(call(datetime(2026, 11, 21, 12, tzinfo=UTC)))
            request = {"since": "2026-11-21T00:00:00+01:00"}
            cost, result = [each async for each in accounts.answer(request, ledger, BERLIN)]
            took = {"read": 100, "cached": 60, "written": 10, "cost": 0.25}
            assert cost["cost"] == {"day": "2026-11-21", "provider": "house", "calls": 1, "failed": 0, **took}
            assert result == {"result": 1}
            for wrong in ({}, {"since": "yesterday"}, {"since": "0001-01-01T00:00:00+14:00"}):
                with pytest.raises(UsageError, match="since: give a time"):
                    await anext(accounts.answer(wrong, ledger, BERLIN))

    run(scene())
