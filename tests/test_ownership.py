"""What is known of a conversation that went or came, and how it gets from one store into another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from roomtone.clock import utc_now
from roomtone.core.continuation import unspoken
from roomtone.core.dialog import Message, Role, Session, Source, Timer, Turn
from roomtone.core.handoff import LINK_LOST_S, Hold, Standing
from roomtone.core.sentences import Sentences
from roomtone.core.wire import LONGEST, Bundle, LetGo, Move, Reply, write
from roomtone.handoff.bundling import APART_S, Place, Unsaid, bundled, by_our_clock, keeping, rest_of
from roomtone.handoff.ownership import Ownership, keeping_moves
from roomtone.link.outbox import Outbox
from roomtone.store import Store, iso, open_store

SESSION = Session(room="office", persona="companion")
HELD = Hold(SESSION.id, 1, Standing.HELD, "h")


@asynccontextmanager
async def stores(folder: Path) -> AsyncIterator[tuple[Store, Store]]:
    async with open_store(folder / "office.db") as office, open_store(folder / "kitchen.db") as kitchen:
        yield office, kitchen


def turn(number: int, heard: str = "hello", said: str = "Good day.") -> Turn:
    return Turn(
        turn=number,
        trace=f"trace-{number}",
        session=SESSION.id,
        room="office",
        persona="companion",
        source=Source.VOICE,
        heard=heard,
        said=said,
        spoken=said,
    )


async def talked(store: Store, turns: int, text: str = "hello") -> tuple[str, ...]:
    """Keep a conversation of so many turns; return what nothing follows."""
    tips: tuple[str, ...] = ()
    for number in range(1, turns + 1):
        asked = Message(session=SESSION.id, role=Role.PERSON, text=text, data={"trace": f"trace-{number}"})
        told = Message(session=SESSION.id, role=Role.ROOMTONE, text=text, data={"trace": f"trace-{number}"})
        said = [(asked, tips), (told, (asked.id,))]
        await store.save_turn(turn(number, text, text), closed=True, messages=said, session=SESSION)
        tips = (told.id,)
    return tips


async def taken(store: Store, turns: int, tips: tuple[str, ...]) -> Bundle:
    return await bundled(store, Place(SESSION, turns, tips, 3.0), Unsaid(), [])


# --------------------------------------------------------------------------------- from store to store


def test_a_conversation_is_in_the_next_store_as_it_was(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stores(tmp_path) as (office, kitchen):
            tips = await talked(office, 3)
            bundle = Bundle.model_validate_json(write(await taken(office, 3, tips)))
            await kitchen.write(*keeping(bundle, "kitchen"))
            assert [each.text for each in await kitchen.ancestry(tips[0])] == ["hello"] * 6
            assert await kitchen.tips(SESSION.id) == tips
            assert await kitchen.history(session=SESSION.id) == await office.history(session=SESSION.id)
            [session] = await kitchen.open_sessions("kitchen", "companion")
            assert session.id == SESSION.id

    run(scenario())


def test_what_comes_back_doubles_nothing(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stores(tmp_path) as (office, kitchen):
            bundle = await taken(office, 3, await talked(office, 3))
            await kitchen.write(*keeping(bundle, "kitchen"))
            back = await taken(kitchen, 3, bundle.tips)
            before = [line async for line in office.export()]
            for _ in range(2):
                await office.write(*keeping(back, "office"))
            after = [line async for line in office.export()]
            assert sorted(after) == sorted(before)

    run(scenario())


@pytest.mark.parametrize("text", ["x" * 3000, "ü" * 3000, "🎈" * 900])
def test_a_long_conversation_leaves_its_oldest_part_behind(run: Run[None], tmp_path: Path, text: str) -> None:
    async def scenario() -> None:
        async with stores(tmp_path) as (office, _):
            tips = await talked(office, 60, text)
            bundle = await taken(office, 60, tips)
            assert bundle.tips == tips
            assert 10 < len(bundle.messages) < 120
            known = {message.id for message in bundle.messages}
            assert {each for edge in bundle.edges for each in edge} <= known
            assert len(write(Reply(of="x" * 64, data={"bundle": bundle.model_dump(mode="json")}))) <= LONGEST

    run(scenario())


def test_who_said_their_name_long_ago_is_still_who_they_are(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stores(tmp_path) as (office, _):
            tips = await talked(office, 40)
            named = turn(1, "call me Anna").model_copy(update={"intent": "memory.name"})
            await office.save_turn(named, closed=True)
            bundle = await taken(office, 40, tips)
            assert [each.turn for each in bundle.turns] == [1, *range(21, 41)]

    run(scenario())


def test_a_countdown_has_what_it_had_left_and_a_time_of_day_is_the_clocks() -> None:
    now = datetime(2026, 11, 21, 16, 20, tzinfo=UTC)
    wrong = now - timedelta(hours=5)
    pasta = Timer(seconds=600, set_at=wrong, due=wrong + timedelta(minutes=10))
    alarm = Timer(due=now + timedelta(hours=9))
    bundle = Bundle(session=SESSION, persona="companion", at=wrong, timers=(pasta, alarm), turns=(turn(1),))
    ours = by_our_clock(bundle, now)
    assert [timer.due for timer in ours.timers] == [now + timedelta(minutes=10), alarm.due]
    assert ours.turns[0].at == bundle.turns[0].at + timedelta(hours=5)
    near = bundle.model_copy(update={"at": now - timedelta(seconds=APART_S - 1)})
    assert by_our_clock(near, now) is near


# ------------------------------------------------------------------------------------------ what is left


WORDS = st.lists(
    st.sampled_from(["a", "a", "no", "well,", "yes.", "Then", "so!", "-", "😀", "3.5", "*"]), max_size=40
)


@given(WORDS, st.integers(0, 40))
def test_what_was_spoken_and_what_is_left_are_what_was_said(words: list[str], cut: int) -> None:
    spoken = " ".join(words[:cut])
    assert f"{spoken} {unspoken(' '.join(words), spoken)}".split() == words


@given(st.text(alphabet="ab .,!?\n你好。", max_size=400), st.integers(0, 400))
def test_it_is_so_wherever_a_sentence_is_cut(said: str, cut: int) -> None:
    cutter = Sentences()
    pieces = [*cutter.feed(said), *cutter.flush()]
    for place in range(len(pieces) + 1):
        words = pieces[place].split()[:cut] if place < len(pieces) else []
        spoken = " ".join([*pieces[:place], *words])
        assert "".join(f"{spoken} {unspoken(said, spoken)}".split()) == "".join(said.split())


def test_what_no_voice_can_say_is_passed_over() -> None:
    assert unspoken("Well. 😀 Then we go.", "Well. Then") == "we go."
    assert unspoken("One.\n\n- two\n- three", "One. - two") == "- three"


def test_where_the_two_do_not_fit_more_is_said_rather_than_less() -> None:
    assert unspoken("The sky is blue.", "nothing of it") == "The sky is blue."


def test_half_a_word_of_a_model_is_left_to_the_next() -> None:
    rest = rest_of("t", "the air scatters bl", whole=False)
    assert rest is not None
    assert rest.text == "the air scatters"
    whole = rest_of("t", "and that is all", whole=True)
    assert whole is not None
    assert whole.text == "and that is all"
    assert rest_of("t", "", whole=True) is None
    long = rest_of("t", "word " * 3000, whole=True)
    assert long is not None
    assert (len(long.text) <= 10_000, long.whole) == (True, False)


# -------------------------------------------------------------------------------------------- the tables


def test_what_was_held_is_known_after_a_restart_but_not_acted_for(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "a.db") as store:
            owned = Ownership(store)
            await owned.write(HELD, None)
            assert owned.acts(SESSION.id)
            again = Ownership(store)
            await again.recall()
            assert (again.of(SESSION.id), again.acts(SESSION.id), again.unconfirmed()) == (HELD, False, HELD)
            await again.confirm(HELD)
            assert (again.acts(SESSION.id), again.unconfirmed()) == (True, None)

    run(scenario())


def test_a_conversation_that_never_left_needs_nobodys_word(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "a.db") as store:
            owned = Ownership(store)
            owned.link_changed(up=False)
            assert owned.acts(SESSION.id)

    run(scenario())


def test_what_went_is_not_acted_for_and_its_bundle_is_kept(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "a.db") as store:
            owned = Ownership(store)
            bundle = Bundle(session=SESSION, persona="companion")
            await owned.write(Hold(SESSION.id, 3, Standing.RELEASED, "h"), bundle)
            kept = await owned.bundle(SESSION.id)
            assert kept is not None
            assert (kept[0], owned.acts(SESSION.id)) == (bundle, False)
            await store.erase()
            assert await owned.bundle(SESSION.id) is None

    run(scenario())


def test_a_bundle_is_forgotten_after_a_day_and_that_it_went_is_not(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stores(tmp_path) as (office, _):
            bundle = await taken(office, 1, await talked(office, 1))
            await Ownership(office).write(Hold(SESSION.id, 0, Standing.RELEASED, "h"), bundle)
            next_run = Ownership(office)
            await next_run.recall()
            assert await next_run.bundle(SESSION.id) is not None
            await office.write(("UPDATE holds SET at = ?", (iso(utc_now() - timedelta(days=2)),)))
            later_run = Ownership(office)
            await later_run.recall()
            assert await later_run.bundle(SESSION.id) is None
            assert not later_run.acts(SESSION.id)

    run(scenario())


def test_what_is_erased_is_in_no_bundle_and_in_no_message_that_waits(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stores(tmp_path) as (office, _):
            bundle = await taken(office, 1, await talked(office, 1, "our secret"))
            await Ownership(office).write(Hold(SESSION.id, 0, Standing.RELEASED, "h"), bundle)
            await Outbox(office).add("1", "topic", b"our secret")
            await office.erase(utc_now() - timedelta(hours=1))
            assert await Ownership(office).bundle(SESSION.id) is None
            assert await Outbox(office).next() is None

    run(scenario())
    assert all(b"our secret" not in file.read_bytes() for file in tmp_path.glob("office.db*"))


def test_the_history_of_handoffs_is_kept_with_the_session(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "a.db") as store:
            moves = [Move(source="a", target="b", epoch=1, at=utc_now()), Move(source="b", target="a", epoch=2)]
            await store.write(*keeping_moves(SESSION.id, moves), *keeping_moves(SESSION.id, moves[:1]))
            assert await Ownership(store).moves(SESSION.id) == moves

    run(scenario())


def test_after_a_long_cut_the_hubs_word_is_waited_for_and_after_a_short_one_not(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "office.db") as store:
            owned = Ownership(store)
            await owned.confirm(HELD)
            for seconds, acts in ((LINK_LOST_S - 1, True), (LINK_LOST_S + 1, False)):
                owned.link_changed(up=False)
                await asyncio.sleep(seconds)
                owned.link_changed(up=True)
                assert owned.acts(SESSION.id) is acts

    run(scenario())


def test_what_it_let_go_of_is_told_with_for_whom_until_it_is_here_again(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / "office.db") as store:
            owned = Ownership(store)
            moves = (Move(source="office", target="kitchen", epoch=1),)
            bundle = Bundle(session=SESSION, persona="companion", moves=moves)
            released = Hold(SESSION.id, 0, Standing.RELEASED, "h")
            await owned.write(released, bundle, *keeping_moves(SESSION.id, moves))
            told = (LetGo(session=SESSION.id, epoch=0, target="kitchen", handoff="h"),)
            assert owned.released == told
            again = Ownership(store)
            await again.recall()
            assert again.released == told
            await again.write(Hold(SESSION.id, 2, Standing.HELD, "h"), None)
            assert again.released == ()

    run(scenario())
