"""The privacy receipt: every call that leaves is a row, and no turn waits for it or fails of it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from rooms import room, scripted
from roomtone import cli
from roomtone.answers import Answers
from roomtone.core.dialog import Source, Turn
from roomtone.core.errors import StoreError, UsageError
from roomtone.core.persona import Egress
from roomtone.core.signals import Prompt
from roomtone.flow import Feed, beside
from roomtone.metrics import Metrics
from roomtone.outbound import Sent, leaving, receipt, within
from roomtone.outbound.ledger import SETTLE_S, Ledger
from roomtone.outbound.receipt import KEPT, Receipts, entries, sent_since, totals
from roomtone.store import FILE_NAME, Store, open_store

NOON = datetime(2020, 11, 21, 12, 0, tzinfo=UTC)
LONG_AGO = datetime(2019, 1, 1, tzinfo=UTC)


def sent(at: datetime = NOON, host: str = "api.openai.com", size: int = 1200, **more: Any) -> Sent:
    return Sent(host, **{"reach": Egress.ANY, "bytes": size, "kind": "text", "why": "answer", "at": at, **more})


async def rows(store: Store) -> int:
    [row] = await store.read("SELECT count(*) AS count FROM sent")
    return int(row["count"])


def test_what_leaves_in_a_turn_is_told_at_once_and_written_behind_it(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger, feed = Ledger(store), Feed()
            receipts = Receipts(ledger, feed)
            with feed.watch("egress.*") as events:
                async with beside(ledger.run(), "ledger"):
                    with within(Egress.ANY, receipts.note("t", "guide")):
                        leaving("api.openai.com:443", 1200, "text", "answer")
                        leaving("10.0.0.1", 7, "audio", "hearing")
                        leaving("127.0.0.1", 99, "text", "answer")
                        leaving(None, 99, "text", "answer")
                    told = [await anext(events), await anext(events)]
                    assert (events.waiting, await rows(store)) == (0, 0)
                    await asyncio.sleep(SETTLE_S + 0.1)
                    assert await rows(store) == 2
            assert [(event.kind, event.trace, event.data.sent.host) for event in told] == [
                ("egress.sent", "t", "api.openai.com"),
                ("egress.sent", "t", "10.0.0.1"),
            ]
            assert [event.data for event in told] == await entries(ledger, LONG_AGO)
            assert {entry.persona for entry in await entries(ledger, LONG_AGO)} == {"guide"}

    run(scene())


def test_who_asks_is_told_of_what_is_not_written_yet(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            note = Receipts(ledger, Feed()).note()
            yesterday = sent(NOON - timedelta(days=1))
            note(sent())
            note(yesterday)
            assert await sent_since(ledger, LONG_AGO) == [yesterday, sent()]
            assert await sent_since(ledger, NOON.astimezone()) == [sent()]
            assert await sent_since(ledger, NOON + timedelta(seconds=1)) == []

    run(scene())


def test_many_rows_are_read_page_by_page_and_none_is_lost_between_two(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            note = Receipts(ledger, Feed()).note()
            for number in range(7):
                note(sent(NOON + timedelta(seconds=number // 3), size=number))
            for page in (1, 2, 3, 7, 8):
                monkeypatch.setattr(receipt, "PAGE", page)
                assert [one.bytes for one in await sent_since(ledger, NOON)] == list(range(7))

    run(scene())


def test_a_disk_that_refuses_costs_no_turn_and_no_row(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            note = Receipts(ledger, Feed()).note("t")
            async with beside(ledger.run(), "ledger"):
                await store.close()
                note(sent())
                await asyncio.sleep(SETTLE_S + 1)
                with pytest.raises(StoreError):
                    await sent_since(ledger, LONG_AGO)
                await store.open()
                note(sent())
                await asyncio.sleep(SETTLE_S + 1)
                assert await rows(store) == 2

    run(scene())


def test_a_row_is_kept_for_a_year_and_some_weeks(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            note = Receipts(ledger, Feed()).note()
            note(sent(NOON - KEPT - timedelta(days=1)))
            note(sent(NOON - KEPT + timedelta(days=1)))
            note(sent(NOON))
            assert [one.at for one in await sent_since(ledger, LONG_AGO)] == [NOON - KEPT + timedelta(days=1), NOON]

    run(scene())


SENT = st.builds(
    Sent,
    st.sampled_from(["a.example", "b.example", "nas.local"]),
    st.sampled_from([Egress.LAN, Egress.ANY]),
    st.integers(0, 10**9),
    st.sampled_from(["text", "audio"]),
    st.just("answer"),
    st.just(NOON),
)


@given(st.lists(SENT))
def test_added_up_by_host_no_byte_is_lost(found: list[Sent]) -> None:
    sums = totals(found)
    assert sum(total.calls for total in sums) == len(found)
    assert sum(total.text + total.audio for total in sums) == sum(one.bytes for one in found)
    assert sum(total.audio for total in sums) == sum(one.bytes for one in found if one.kind == "audio")
    assert [total.reach for total in sums] == sorted(
        (total.reach for total in sums), key=[Egress.ANY, Egress.LAN].index
    )
    assert len({(total.host, total.reach) for total in sums}) == len(sums)


# --------------------------------------------------------------------------------------- who asks for it


@pytest.fixture
def state(run: Run[Any], tmp_path: Path) -> Path:
    """Make a state folder in which a turn sent two things out, and something else a third."""

    async def main() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            ledger = Ledger(store)
            turn: dict[str, Any] = {"turn": 7, "trace": "t", "session": "0123456789abcdef", "room": "kitchen"}
            await store.save_turn(Turn(persona="guide", source=Source.VOICE, **turn), closed=True)
            receipts = Receipts(ledger, Feed())
            receipts.note("t", "guide")(
                sent(kind="audio", size=64_000, host="nas.local", reach=Egress.LAN, why="hearing")
            )
            receipts.note("t", "guide")(sent(NOON + timedelta(seconds=1)))
            receipts.note()(sent(NOON + timedelta(days=1), "hub.example", 80, why="model download"))
            await ledger.flush()

    run(main())
    (tmp_path / "config.yaml").write_text("time_zone: UTC\n")
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], state: Path, *words: str) -> list[str]:
    where = ("--config", str(state / "config.yaml"), "--state-dir", str(state))
    assert cli.main(["receipt", *where, *words]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_receipt_is_printed_with_its_sums(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    assert told(capsys, state, "--since", "2020-11-01") == [
        "2020-11-21",
        "  12:00:00  nas.local, in the house, 64.0 kB of audio, hearing, guide, turn 7 of session 01234567",
        "  12:00:01  api.openai.com, beyond the house, 1.2 kB of text, answer, guide, turn 7 of session 01234567",
        "2020-11-22",
        "  12:00:00  hub.example, beyond the house, 80 bytes of text, model download",
        "api.openai.com, beyond the house: 1 call, 1.2 kB of text",
        "hub.example, beyond the house: 1 call, 80 bytes of text",
        "nas.local, in the house: 1 call, 64.0 kB of audio",
    ]


def test_as_json_the_receipt_is_a_call_a_line_then_the_sums(capsys: pytest.CaptureFixture[str], state: Path) -> None:
    first, *_, last = map(json.loads, told(capsys, state, "--json", "--since", "2020-11-01"))
    at = datetime.fromisoformat(first.pop("at"))
    assert at == NOON
    what = {"host": "nas.local", "reach": "lan", "bytes": 64_000, "kind": "audio", "why": "hearing"}
    assert first == {**what, "trace": "t", "persona": "guide", "session": "0123456789abcdef", "turn": 7}
    assert last == {"total": {"host": "nas.local", "reach": "lan", "calls": 1, "text": 0, "audio": 64_000}}


def test_where_nothing_left_that_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("time_zone: UTC\n")
    [line] = told(capsys, tmp_path)
    assert line.startswith("Nothing has left this machine since ")
    assert line.endswith(" 00:00.")
    [line] = told(capsys, tmp_path, "--costs", "--since", "7d")
    assert line.startswith("No language model was asked since ")
    assert told(capsys, tmp_path, "--json") == []


@pytest.mark.parametrize("when", ["tomorrow", "2999-01-01", ""])
def test_since_when_must_be_a_time_that_is_past(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, when: str
) -> None:
    assert cli.main(["receipt", "--state-dir", str(tmp_path), "--since", when]) == 2
    assert capsys.readouterr().err.startswith(f"roomtone: {when}: ")


def test_the_daemon_tells_the_same(run: Run[None], state: Path) -> None:
    async def scene() -> None:
        async with room(scripted(), state) as rehearsal:
            answers = Answers(rehearsal.room, Metrics(rehearsal.room.feed, {}, (), state))
            request = {"command": "receipt", "since": "2020-11-22T00:00:00+00:00"}
            [row, total, result] = [event async for event in answers.answer(request)]
            assert row["sent"]["why"] == "model download"
            assert total["total"]["calls"] == result["result"] == 1
            assert [event async for event in answers.answer({**request, "command": "costs"})] == [{"result": 0}]

    run(scene())


def test_what_the_room_sends_outside_of_any_turn_is_a_row_too(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            leaving("api.openai.com", 0, "text", "check")
            [entry] = await entries(rehearsal.room.parts.minds.ledger, LONG_AGO)
            assert (entry.sent.why, entry.trace, entry.persona, entry.turn) == ("check", "", "", None)

    run(scene())


def test_the_daemon_keeps_what_another_program_sent(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            answers = Answers(rehearsal.room, Metrics(rehearsal.room.feed, {}, (), tmp_path))
            call = {"host": "hub.example", "reach": "any", "bytes": 80, "kind": "text", "why": "model download"}
            request = {"command": "receipt", "note": {**call, "at": NOON.isoformat()}}
            assert [event async for event in answers.answer(request)] == [{"result": 1}]
            [entry] = await entries(rehearsal.room.parts.minds.ledger, LONG_AGO)
            assert entry.sent == Sent("hub.example", Egress.ANY, 80, "text", "model download", NOON)
            for wrong in (7, {}, {**call, "at": "noon"}):
                with pytest.raises(UsageError, match="note"):
                    await anext(answers.answer({**request, "note": wrong}))

    run(scene())


def test_a_room_is_asked_what_it_sent_and_tells_it_from_the_receipt(run: Run[None], tmp_path: Path) -> None:
    async def scene() -> None:
        async with room(scripted(), tmp_path) as rehearsal:
            conversation = rehearsal.room.conversation
            before = await conversation.answer(Prompt("What did you send out today?", Source.CLI))
            leaving("api.openai.com", 4000, "text", "answer")
            after = await conversation.answer(Prompt("What did you send out today?", Source.CLI))
        assert (before.intent, before.said) == ("receipt.sent", "Nothing. Not a word left this machine today.")
        told = "One call to api.openai.com, about four kilobytes of text, to answer you."
        assert after.said == f"I made one call beyond the house today. {told}"

    run(scene())
