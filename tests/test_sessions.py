"""Sessions: begun, gone on with after a restart, expired, ended, asked for, and forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import scripted
from roomtone import cli, engines
from roomtone.app import Room, open_room
from roomtone.clock import utc_now
from roomtone.core.dialog import Ended, Message, Role, Session, Source, Stage, Turn
from roomtone.core.errors import SessionExpired, SessionNotFound, UsageError
from roomtone.core.signals import Muter, MuteSet, MuteToggled, Prompt
from roomtone.history import moment
from roomtone.morning import tell_what_was_cut_off
from roomtone.store import FILE_NAME, Store, open_store

HOUR_S = 3600.0


@asynccontextmanager
async def household(folder: Path, **sections: Any) -> AsyncIterator[Room]:
    """Open a room as the daemon does, on a device that nobody speaks to; it remembers for an hour."""
    companion = folder / "personas" / "companion" / "config.yaml"
    companion.parent.mkdir(parents=True, exist_ok=True)
    companion.write_text("name: Companion\ncontext_retention_hours: 1\n", "utf-8")
    companion.with_name("system_prompt.md").write_text("You keep a room company.", "utf-8")
    async with (
        engines.open_engine("audio", "wav", engines.load("audio", "wav").Settings()) as device,
        open_room(scripted(**sections), folder, device=device) as room,
    ):
        yield room


async def ask(room: Room, text: str) -> Turn:
    return await room.conversation.answer(Prompt(text, Source.CLI))


async def earlier(folder: Path, ago_s: float, room: str = "room", **more: Any) -> Session:
    """Leave a session of one turn in the store, as a daemon that was killed so long ago did."""
    at = utc_now() - timedelta(seconds=ago_s)
    session = Session(room=room, persona="companion", started=at)
    fixed = {"session": session.id, "room": room, "persona": "companion", "at": at, "source": Source.VOICE}
    turn = Turn(**{"turn": 4, "trace": "before", "heard": "hello", "said": "Hi.", **fixed, **more})
    question = Message(session=session.id, role=Role.PERSON, text="hello", at=at, data={"trace": "before"})
    async with open_store(folder / FILE_NAME) as store:
        await store.save_turn(turn, closed=not more, messages=[(question, [])], session=session)
    return session


async def all_sessions(folder: Path) -> list[Session]:
    async with open_store(folder / FILE_NAME) as store:
        return await store.sessions()


# ------------------------------------------------------------------------------------- begun and resumed


def test_a_conversation_goes_on_after_a_restart(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as room:
            first = await ask(room, "what time is it")
        await asyncio.sleep(0.5 * HOUR_S)
        async with household(tmp_path) as room:
            again = await ask(room, "say that again")
            assert (again.session, again.turn) == (first.session, first.turn + 1)
            assert again.said == first.said
            path = await room.store.ancestry(room.conversation.recorder.tips[0])
            assert [message.text for message in path] == ["what time is it", first.said, "say that again", again.said]

    run(scenario())


def test_past_the_personas_retention_another_conversation_begins(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        old = await earlier(tmp_path, 1.1 * HOUR_S)
        async with household(tmp_path) as room:
            turn = await ask(room, "say that again")
            assert turn.turn == 1
            assert turn.session != old.id
            assert "haven't said anything" in turn.said
        ended = (await all_sessions(tmp_path))[0].ended
        assert ended is not None
        assert (ended - old.started).total_seconds() == pytest.approx(HOUR_S)

    run(scenario())


def test_silence_ends_a_session_while_the_daemon_runs_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as room:
            first = await ask(room, "what time is it")
            await asyncio.sleep(1.1 * HOUR_S)
            second = await ask(room, "say that again")
            assert second.session != first.session
            assert "haven't said anything" in second.said
        old, new = await all_sessions(tmp_path)
        assert old.ended is not None
        assert (old.ended - first.at).total_seconds() == pytest.approx(HOUR_S, abs=1)
        assert new.ended is None

    run(scenario())


def test_another_rooms_conversation_is_left_alone(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        other = await earlier(tmp_path, 60.0, room="attic")
        async with household(tmp_path) as room:
            assert (await ask(room, "hello")).session != other.id
        assert (await all_sessions(tmp_path))[0].ended is None

    run(scenario())


def test_a_clock_that_was_set_back_does_not_lose_the_conversation(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        session = await earlier(tmp_path, -10 * HOUR_S)
        async with household(tmp_path) as room:
            assert (await ask(room, "hello")).session == session.id

    run(scenario())


# ------------------------------------------------------------------------------------------- asked for


def test_a_session_is_gone_on_with_by_its_id(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        older, newer = await earlier(tmp_path, 600.0), await earlier(tmp_path, 60.0)
        async with household(tmp_path) as room:
            assert (await ask(room, "hello")).session == newer.id
            await room.conversation.recorder.go_on(older.id[:8])
            turn = await ask(room, "hello")
            assert (turn.session, turn.turn) == (older.id, 5)

    run(scenario())


@pytest.mark.parametrize(
    ("ago_s", "room", "wanted", "error"),
    [
        (60.0, "room", "nothing", SessionNotFound),
        (60.0, "room", "", SessionNotFound),
        (60.0, "attic", None, SessionNotFound),
        (1.1 * HOUR_S, "room", None, SessionExpired),
    ],
)
def test_a_session_that_cannot_be_had_is_one_clear_line(
    run: Run[None], tmp_path: Path, ago_s: float, room: str, wanted: str | None, error: type[Exception]
) -> None:
    async def scenario() -> None:
        session = await earlier(tmp_path, ago_s, room)
        async with household(tmp_path) as opened:
            before = await ask(opened, "hello")
            with pytest.raises(error):
                await opened.conversation.recorder.go_on(session.id if wanted is None else wanted)
            assert (await ask(opened, "hello")).session == before.session

    run(scenario())


# --------------------------------------------------------------------------------------------- cut off


@pytest.mark.parametrize(
    ("cut", "told"),
    [
        ({"stage": Stage.SPEAKING, "said": "One. Two.", "spoken": "One."}, "I was cut off. I was saying: Two."),
        ({"stage": Stage.THINKING, "said": ""}, "I was cut off when you had said: hello. Shall I answer that now?"),
        ({"stage": Stage.HEARING, "heard": "", "said": ""}, "I was cut off while you were speaking"),
        ({"stage": Stage.SPEAKING, "said": "Ring.", "source": Source.SCHEDULE}, ""),
        ({"stage": Stage.SPEAKING, "said": "Done.", "spoken": "Done."}, ""),
    ],
)
def test_what_a_crash_came_into_is_told_from_the_turns_row(
    run: Run[None], tmp_path: Path, cut: dict[str, Any], told: str
) -> None:
    async def scenario() -> None:
        await earlier(tmp_path, 30.0, **cut)
        async with household(tmp_path) as room:
            [unfinished] = room.store.unfinished
            assert (unfinished.ended, unfinished.error.code if unfinished.error else "") == (Ended.FAILED, "STOPPED")
            with room.feed.watch("turn.ended") as ended:
                tell_what_was_cut_off(room)
                await ask(room, "hello")
                first: Turn = (await anext(ended)).data.turn
            assert first.said.startswith(told) if told else first.heard == "hello"

    run(scenario())


def test_what_was_cut_off_long_ago_is_not_told(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        await earlier(tmp_path, 200 * HOUR_S, stage=Stage.THINKING, said="")
        async with household(tmp_path) as room:
            with room.feed.watch("turn.ended") as ended:
                tell_what_was_cut_off(room)
                await ask(room, "hello")
                assert (await anext(ended)).data.turn.heard == "hello"

    run(scenario())


LONG_CUT = {"stage": Stage.SPEAKING, "said": "One. Two.", "spoken": "One."}
ASKED_CUT = {"stage": Stage.THINKING, "heard": "what time is it", "said": ""}


@pytest.mark.parametrize(
    ("cut", "question", "reply", "answer"),
    [
        (LONG_CUT, "I was cut off in the middle of an answer. Shall I go on?", "yes", "Two."),
        (LONG_CUT, "I was cut off in the middle of an answer. Shall I go on?", "no", "Okay."),
        (ASKED_CUT, "I was cut off when you had said: what time is it. Shall I answer that now?", "yes", "It's "),
        (ASKED_CUT, "I was cut off when you had said: what time is it. Shall I answer that now?", "no", "Okay."),
    ],
)
def test_an_answer_that_was_cut_off_a_while_ago_is_offered_and_given_to_a_yes(
    run: Run[None], tmp_path: Path, cut: dict[str, Any], question: str, reply: str, answer: str
) -> None:
    async def scenario() -> None:
        await earlier(tmp_path, 600.0, **cut)
        async with household(tmp_path) as room:
            with room.feed.watch("turn.ended") as ended:
                tell_what_was_cut_off(room)
                assert (await anext(ended)).data.turn.said == question
            assert (await ask(room, reply)).said.startswith(answer)
            assert not (await ask(room, "yes")).said.startswith(answer), "it is offered once"

    run(scenario())


def test_a_yes_that_was_cut_off_is_not_offered_to_be_said_again(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        await earlier(tmp_path, 600.0, stage=Stage.THINKING, heard="yes", said="")
        async with household(tmp_path) as room:
            with room.feed.watch("turn.ended") as ended:
                tell_what_was_cut_off(room)
                assert (await anext(ended)).data.turn.said.endswith("Please ask again if it was not done.")

    run(scenario())


def test_nobody_is_woken_to_be_offered_the_rest_of_an_answer(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        await earlier(tmp_path, 600.0, **LONG_CUT)
        async with household(tmp_path, quiet_hours={"start": "00:00", "end": "00:00"}) as room:
            with room.feed.watch("turn.ended") as ended:
                tell_what_was_cut_off(room)
                await ask(room, "hello")
                assert (await anext(ended)).data.turn.heard == "hello"

    run(scenario())


# ------------------------------------------------------------------------------------------- forgotten


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob(f"{FILE_NAME}*")))


def test_the_last_hour_is_forgotten_by_voice_and_what_was_before_it_stays(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as room:
            await ask(room, "add marzipan to the shopping list")
            await asyncio.sleep(0.9 * HOUR_S)
            before = await ask(room, "who are you")
            await asyncio.sleep(0.5 * HOUR_S)
            await ask(room, "are bananas on the shopping list")
            assert (await ask(room, "forget what I just said")).said == "Forgotten."
            await asyncio.sleep(1)
            assert b"are bananas" not in bytes_of(tmp_path)
            assert b"who are you" in bytes_of(tmp_path)
            turn = await ask(room, "forget the last hour")
            assert turn.said == "Forgotten."
            await asyncio.sleep(1)
            assert b"who are you" not in bytes_of(tmp_path)
            kept = [each.heard for each in await room.store.history()]
            assert kept == ["add marzipan to the shopping list", "forget the last hour"]
            after = await ask(room, "read the shopping list")
            assert "marzipan" in after.said
            assert after.session == before.session
            path = await room.store.ancestry(room.conversation.recorder.tips[0])
            assert [message.text for message in path[-4:]] == [turn.heard, turn.said, after.heard, after.said]

    run(scenario())


def test_erasing_from_outside_takes_the_turn_that_is_going_on_too(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as room:
            with room.feed.watch("turn.*") as events:
                room.conversation.post(Prompt("what can you do", Source.CLI))
                while (await anext(events)).kind != "turn.first_sound":
                    pass
                assert await room.conversation.recorder.erase() == 1
                while (await anext(events)).kind != "turn.ended":
                    pass
            again = await ask(room, "what time is it")
            assert again.turn == 1
            assert [turn.heard for turn in await room.store.history()] == ["what time is it"]
            assert b"what can you do" not in bytes_of(tmp_path)

    run(scenario())


@pytest.mark.parametrize("times", [1, 40])
def test_after_any_erasure_the_graph_is_whole_and_the_bytes_are_gone(
    run: Run[None], tmp_path: Path, times: int
) -> None:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            await talk(store, times)
            await store.erase(since=datetime(2026, 1, 1, 12, tzinfo=UTC))
            kept = [json.loads(line) async for line in store.export()]
        ids = {row["id"] for row in kept if row["table"] == "messages"}
        edges = [row for row in kept if row["table"] == "edges"]
        assert all(row["child"] in ids and row["parent"] in ids for row in edges)
        assert len([row for row in kept if row["table"] == "turns"]) == times
        assert len(ids) == 2 * times
        assert b"late words" not in bytes_of(tmp_path)
        assert bytes_of(tmp_path).count(b"early words") >= times

    run(scenario())


async def talk(store: Store, times: int) -> None:
    """Keep as many turns from before noon as from after it, each with two messages, in one line."""
    session, parent = Session(room="room", persona="companion"), ""
    for number in range(1, 2 * times + 1):
        late = number > times
        at = datetime(2026, 1, 1, 13 if late else 11, tzinfo=UTC) + timedelta(seconds=number)
        heard = ("late words " if late else "early words ") * (number % 7 * 30 + 1)
        fixed: dict[str, Any] = {"session": session.id, "room": "room", "persona": "companion", "source": "voice"}
        turn = Turn(turn=number, trace=f"t{number}", heard=heard, at=at, **fixed)
        data = {"trace": f"t{number}"}
        question = Message(session=session.id, role=Role.PERSON, text=heard, at=at, data=data)
        reply = Message(session=session.id, role=Role.ROOMTONE, text=heard, at=at, data=data)
        await store.save_turn(turn, closed=False, session=session, messages=[(question, [parent])])
        await store.save_turn(turn, closed=True, messages=[(reply, [question.id])])
        parent = reply.id


# --------------------------------------------------------------------------------------------- commands


@pytest.fixture
def kept(run: Run[Any], tmp_path: Path) -> Path:
    async def scenario() -> None:
        async with open_store(tmp_path / FILE_NAME) as store:
            await talk(store, 2)

    run(scenario())
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], folder: Path, *words: str, code: int = 0) -> list[dict[str, Any]]:
    assert cli.main(["history", "--state-dir", str(folder), "--json", *words]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_sessions_turns_and_messages_are_shown(capsys: pytest.CaptureFixture[str], kept: Path) -> None:
    [session] = printed(capsys, kept, "--sessions")
    assert (session["turns"], session["session"]["ended"]) == (4, None)
    id_ = session["session"]["id"]
    turn, question, reply = printed(capsys, kept, "--session", id_[:8], "--turn", "3")
    assert (turn["turn"], question["message"]["role"], reply["message"]["role"]) == (3, "user", "assistant")
    *path, node = printed(capsys, kept, "--node", question["message"]["id"][:12])
    assert [each["path"]["id"] for each in path][-1] == question["message"]["id"]
    assert len(path) == 5
    assert node["children"] == [reply["message"]["id"]]
    assert node["status"] == "completed"
    where = f"What was said in turn 3 of session {id_[:8]} (room, companion)"
    assert node["summary"] == f"{where}: completed, answered by none, 4 before it, 1 right behind it."
    assert cli.main(["history", "--state-dir", str(kept), "--turn", "3"]) == 0
    assert reply["message"]["id"][:8] in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--session", "nobody"], ["--node", "nothing"], ["--turn", "99"]])
def test_what_there_is_not_is_said(capsys: pytest.CaptureFixture[str], kept: Path, words: list[str]) -> None:
    assert cli.main(["history", "--state-dir", str(kept), *words]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_command_erases_since_a_moment(capsys: pytest.CaptureFixture[str], kept: Path) -> None:
    assert cli.main(["history", "--state-dir", str(kept), "--since", "1h"]) == 2
    printed(capsys, kept, "--erase", "--yes", "--since", "2026-01-01T12:00:00+00:00")
    assert [turn["turn"] for turn in printed(capsys, kept)] == [1, 2]
    assert b"late words" not in bytes_of(kept)


def test_a_moment_before_all_time_erases_nothing(capsys: pytest.CaptureFixture[str], kept: Path) -> None:
    begun = ["history", "--state-dir", str(kept), "--erase", "--yes", "--since", "0001-01-01T00:00:00+14:00"]
    assert cli.main(begun) == 2
    assert "give a time" in capsys.readouterr().err
    assert len(printed(capsys, kept)) > 2


NOW = datetime(2026, 11, 21, 16, 20, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("90m", NOW - timedelta(minutes=90)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2d", NOW - timedelta(days=2)),
        ("16:00", NOW - timedelta(minutes=20)),
        ("18:00", NOW - timedelta(hours=22, minutes=20)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-21T15:00+01:00", datetime(2026, 11, 21, 14, tzinfo=UTC)),
    ],
)
def test_a_moment_is_written_as_people_do(text: str, meant: datetime) -> None:
    assert moment(text, NOW) == meant


@pytest.mark.parametrize("text", ["", "soon", "25:00", "1x", "99999999w", "2027-01-01", "-1h", "1h 30"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        moment(text, NOW)


# ---------------------------------------------------------------------------------------- the microphone


def test_a_microphone_that_was_switched_off_is_off_after_a_restart_and_on_once_it_was_switched_on(
    run: Run[None], tmp_path: Path
) -> None:
    async def muted_after(*signals: MuteSet | MuteToggled) -> bool:
        async with household(tmp_path) as room:
            await ask(room, "what time is it")
            for signal in signals:
                room.conversation.post(signal)
            await ask(room, "what time is it")
            return room.conversation.state.muted

    async def scenario() -> None:
        assert await muted_after(MuteToggled())
        assert await muted_after()
        assert not await muted_after(MuteSet(muted=False))
        assert not await muted_after()
        assert await muted_after(MuteSet(muted=True, by=Muter.SWITCH))
        assert not await muted_after(), "the switch tells by itself how it stands"

    run(scenario())
