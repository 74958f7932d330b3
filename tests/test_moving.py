"""A conversation that moves: the next room goes on with the next word, and all that belongs to it is there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from moving_house import MovingHouse, moving_house, named
from rooms import HELP, scripted, somebody_speaks, speaks, until
from roomtone.core.dialog import Ended, Role, Source
from roomtone.core.errors import StoreError
from roomtone.core.machine import Mode
from roomtone.core.schedule import Action
from roomtone.core.signals import Dismiss, MuteSet, Prompt, Switch
from roomtone.core.wire import Adopt, Code, Offer, Release, Reply
from roomtone.flow import Event
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings

MOVE = "continue in the kitchen"
BACK = "continue in the office"


def plain(text: str) -> str:
    return " ".join(text.split())


async def starts(rehearsal: Rehearsal, seconds: float = 2.0) -> None:
    """Let somebody speak, and be answered for some seconds."""
    rehearsal.device.visit(await somebody_speaks())
    await until(rehearsal, "turn.first_sound")
    await asyncio.sleep(seconds)


def sounding(rehearsal: Rehearsal) -> list[str]:
    """Return a list that grows by what begins to sound, also by what is no part of the conversation."""
    sounded: list[str] = []

    def note(event: Event) -> None:
        if event.kind == "turn.first_sound":
            sounded.append(event.data.said)

    rehearsal.show = note
    return sounded


async def walks_out(house: MovingHouse, where: str = "office") -> None:
    """Let somebody ask for something long in a room, and while it is answered want to go to another."""
    await starts(house.rooms[where])
    house.rooms[where].device.visit(await somebody_speaks())


async def graph(rehearsal: Rehearsal) -> list[tuple[Role, str]]:
    """Return what was said, as the store of a room has it, and led to the one message that nothing follows.

    A reply that was cut short stands beside the words that cut it short, so neither comes first.
    """
    store, session = rehearsal.room.store, rehearsal.room.conversation.recorder.session
    assert session is not None
    [tip] = await store.tips(session.id)
    return sorted((message.role, message.text) for message in await store.ancestry(tip))


def talkative(room: str, *heard: str, texts: tuple[Any, ...] = ()) -> Settings:
    providers = {"pi": {"engine": "script", "texts": texts}}
    return scripted(*heard, **named(room), llm={"route": ["pi"], "providers": providers, "anticipate": False})


# ------------------------------------------------------------------------------------------- the answer


def test_an_answer_is_finished_in_the_next_room_from_the_next_word_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=()) as house:
            await walks_out(house)
            [[asked, moved], [rest]] = await house.rest("office", "kitchen")
            assert (asked.ended, moved.ended, moved.said) == (Ended.INTERRUPTED, Ended.MOVED, "")
            assert 0 < len(asked.spoken) < len(asked.said)
            assert plain(f"{asked.spoken} {rest.spoken}") == plain(asked.said)
            assert (rest.source, rest.ended, rest.room) == (Source.HUB, Ended.COMPLETED, "kitchen")
            assert (rest.session, rest.turn) == (asked.session, moved.turn + 1)
            assert house.owners == {asked.session: ("kitchen", 1)}

    run(scenario())


def test_the_graph_comes_to_one_end_and_in_it_nothing_stands_twice(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=()) as house:
            await walks_out(house)
            [[asked, _], [rest]] = await house.rest("office", "kitchen")
            said = [
                (Role.PERSON, HELP),
                (Role.ROOMTONE, asked.spoken),
                (Role.PERSON, MOVE),
                (Role.ROOMTONE, rest.spoken),
            ]
            assert await graph(house.rooms["kitchen"]) == sorted(said)

    run(scenario())


def test_back_and_forth_it_is_one_conversation(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=(BACK,)) as house:
            await walks_out(house)
            await until(house.rooms["kitchen"], "turn.first_sound")
            await asyncio.sleep(1.0)
            house.rooms["kitchen"].device.visit(await somebody_speaks())
            [[first, moved], [asked, _, last]] = await house.rest("kitchen", "office")
            assert plain(f"{asked.spoken} {first.spoken} {last.spoken}") == plain(asked.said)
            assert (first.ended, moved.ended, last.ended) == (Ended.INTERRUPTED, Ended.MOVED, Ended.COMPLETED)
            assert [turn.turn for turn in (asked, first, moved, last)] == [1, 3, 4, 5]
            texts = [text for _, text in await graph(house.rooms["office"])]
            assert sorted(texts) == sorted([HELP, asked.spoken, MOVE, first.spoken, BACK, last.spoken])
            assert [(each.source, each.target) for each in house.bundles[-1].moves] == [
                ("office-1", "kitchen"),
                ("kitchen-1", "office"),
            ]

    run(scenario())


def test_by_a_button_it_goes_in_mid_word(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP,), kitchen=()) as house:
            await starts(house.rooms["office"])
            quiet = house.rooms["office"].room.parts.quiet
            await quiet.act(Action(handoff="kitchen"), Source.BUTTON, "button a")
            [[asked], [rest]] = await house.rest("office", "kitchen")
            assert asked.ended is Ended.MOVED
            assert plain(f"{asked.spoken} {rest.spoken}") == plain(asked.said)

    run(scenario())


def test_where_nothing_is_left_to_say_the_next_room_says_that_it_is_there(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=("what time is it", MOVE), kitchen=("say that again",)) as house:
            [time] = await speaks(house.rooms["office"])
            await speaks(house.rooms["office"])
            here = await until(house.rooms["kitchen"], "turn.first_sound")
            assert here.data.said == "I'm here now."
            await house.rooms["kitchen"].at_rest()
            assert house.rooms["kitchen"].room.conversation.state.mode is Mode.LISTENING
            [again] = await speaks(house.rooms["kitchen"])
            assert (again.said, again.session) == (time.said, time.session)

    run(scenario())


def test_a_model_that_had_not_finished_is_gone_on_with_by_the_next_rooms(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        begun = {"text": "The sky is blue because the air scatters blue light more than", "stalls_after": 11}
        ended = "the air scatters blue light more than red light. That is all."
        office = talkative("office", "why is the sky blue", MOVE, texts=(begun,))
        async with moving_house(tmp_path, office=office, kitchen=talkative("kitchen", texts=(ended,))) as house:
            await walks_out(house)
            [[asked, _], [rest]] = await house.rest("office", "kitchen")
            whole = "The sky is blue because the air scatters blue light more than red light. That is all."
            assert plain(f"{asked.spoken} {rest.spoken}") == whole
            assert rest.answered_by == "llm:pi"
            [place] = house.rooms["kitchen"].room.parts.minds.router.places
            [(told, _)] = place.engine.asked  # type: ignore[attr-defined]
            texts = [message.text for message in told]
            assert sum("why is the sky blue" in text for text in texts) == 1

    run(scenario())


def test_what_nobody_had_answered_yet_is_answered_in_the_next_room(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        slow = {"text": "Nobody hears this.", "first_piece_s": 2.0}
        office = talkative("office", "why is the sky blue", texts=(slow,))
        kitchen = talkative("kitchen", texts=("The air is blue.",))
        async with moving_house(tmp_path, office=office, kitchen=kitchen) as house:
            house.rooms["office"].device.visit(await somebody_speaks())
            await until(house.rooms["office"], "turn.heard")
            await house.moved("office", "kitchen")
            [turns, [answered]] = await house.rest("office", "kitchen")
            assert turns == []
            assert (answered.heard, answered.said) == ("why is the sky blue", "The air is blue.")
            texts = [text for _, text in await graph(house.rooms["kitchen"])]
            assert sorted(texts) == sorted([answered.heard, answered.said])

    run(scenario())


# ------------------------------------------------------------------------------------ what belongs to it


def test_a_question_that_waits_for_its_yes_is_answered_in_the_next_room(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=("forget everything", MOVE), kitchen=("yes",)) as house:
            [asked] = await speaks(house.rooms["office"])
            assert asked.offers is not None
            await speaks(house.rooms["office"])
            await house.rooms["kitchen"].at_rest()
            [yes] = await speaks(house.rooms["kitchen"])
            assert yes.intent == "forget.all"

    run(scenario())


def test_its_timers_ring_where_it_is(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=("set a timer for one minute", MOVE), kitchen=()) as house:
            office, kitchen = house.rooms["office"], house.rooms["kitchen"]
            await office.room.parts.timers.save([])
            [set_] = await speaks(office)
            [timer] = await office.room.parts.timers.running()
            assert timer.session == set_.session
            await speaks(office)
            await kitchen.at_rest()
            assert await office.room.parts.timers.running() == []
            assert [each.id for each in await kitchen.room.parts.timers.running()] == [timer.id]
            await until(kitchen, "turn.first_sound")
            assert [each.id for each in kitchen.room.parts.timers.rang()] == [timer.id]

    run(scenario())


def test_a_timer_goes_along_with_who_set_it_in_an_earlier_conversation(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        heard = ("call me Anna", "set a timer for one hour", "call me Anna", "continue in the kitchen")
        async with moving_house(tmp_path, office=heard, kitchen=()) as house:
            office = house.rooms["office"]
            for _ in range(2):
                await speaks(office)
            [timer] = await office.room.parts.timers.running()
            assert timer.person == "Anna"
            session = office.room.conversation.recorder.session
            assert session is not None
            office.room.conversation.recorder.leave(session.id)
            for _ in range(2):
                await speaks(office)
            await house.rooms["kitchen"].at_rest()
            assert (house.bundles[0].person, house.bundles[0].session.id != session.id) == ("Anna", True)
            [moved] = await house.rooms["kitchen"].room.parts.timers.running()
            assert moved.id == timer.id

    run(scenario())


def test_the_next_room_speaks_as_who_was_talked_to(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=("what time is it",)) as house:
            office = house.rooms["office"].room.conversation
            office.post(Switch("butler", Source.CLI))
            await until(house.rooms["office"], "persona.switched")
            await walks_out(house)
            [_, [rest]] = await house.rest("office", "kitchen")
            assert rest.persona == "butler"
            assert house.rooms["kitchen"].room.conversation.speaker.persona.id == "butler"
            [time] = await speaks(house.rooms["kitchen"])
            assert (time.persona, time.session) == ("butler", rest.session)

    run(scenario())


def test_a_room_that_let_go_begins_another_conversation(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE, "what time is it"), kitchen=()) as house:
            await walks_out(house)
            [[asked, _], _] = await house.rest("office", "kitchen")
            [time] = await speaks(house.rooms["office"])
            assert (time.session != asked.session, time.turn) == (True, 1)
            assert house.movers["office"].standing() == (time.session, 0)
            assert house.movers["kitchen"].standing() == (asked.session, 1)

    run(scenario())


# ------------------------------------------------------------------------------------- where it stays


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (Code.MUTED, "The microphone in the kitchen is off, so I stay here."),
        (Code.BUSY, "The kitchen is busy, so I stay here."),
        ("DEVICE_OFFLINE", "The kitchen is off, so I stay here."),
        ("PERSONA_NOT_FOUND", "Nobody like me is in the kitchen, so I stay here."),
        ("ANYTHING", "I can't go to the kitchen now, so I stay here."),
    ],
)
def test_why_it_stays_is_said_in_a_sentence(run: Run[None], tmp_path: Path, code: str, said: str) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(MOVE,), kitchen=()) as house:
            house.refuses = code
            [turn] = await speaks(house.rooms["office"])
            assert (turn.said, turn.ended) == (said, Ended.COMPLETED)

    run(scenario())


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        (BACK, "We are in the office already."),
        ("move this to the cellar", "I don't know a room called cellar."),
        ("I'm going to bed, come with me", "I don't know a room called bedroom."),
    ],
)
def test_a_room_that_is_none_other_is_told(run: Run[None], tmp_path: Path, heard: str, said: str) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(heard,), kitchen=()) as house:
            [turn] = await speaks(house.rooms["office"])
            assert turn.said == said

    run(scenario())


def test_a_hub_that_agreed_and_was_not_heard_of_again_leaves_no_silence(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(MOVE,), kitchen=()) as house:
            house.begin = lambda *_, **__: None  # type: ignore[method-assign]
            [turn] = await speaks(house.rooms["office"])
            assert turn.said == "I can't reach the other rooms right now."

    run(scenario())


def test_where_the_next_room_cannot_take_it_this_one_says_why_and_the_rest(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE, "say that again"), kitchen=()) as house:
            house.rooms["kitchen"].room.conversation.post(MuteSet(muted=True))
            sounded = sounding(house.rooms["office"])
            await walks_out(house)
            [[asked, moved, rest], other] = await house.rest("office", "kitchen")
            assert other == []
            assert "The microphone in the kitchen is off, so I'll go on here." in sounded
            assert plain(f"{asked.spoken} {rest.spoken}") == plain(asked.said)
            assert house.owners[asked.session] == ("office", 2)
            texts = [text for _, text in await graph(house.rooms["office"])]
            assert sorted(texts) == sorted([HELP, asked.spoken, MOVE, rest.spoken])
            [again] = await speaks(house.rooms["office"])
            assert (again.said, again.turn, moved.turn) == (asked.said, 4, 2)

    run(scenario())


def test_what_is_said_while_it_is_written_that_it_goes_belongs_to_another_conversation(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, "what time is it"), kitchen=()) as house:
            office = house.rooms["office"]
            await starts(office)
            owned, begun = office.room.conversation.recorder.owned, asyncio.Event()
            write = owned.write

            async def slowly(*given: Any) -> None:
                begun.set()
                await asyncio.sleep(4)
                await write(*given)

            owned.write = slowly  # type: ignore[method-assign]
            house.begin("office", "kitchen")
            await begun.wait()
            office.device.visit(await somebody_speaks())
            [[asked, other], [rest]] = await house.rest("office", "kitchen")
            assert (asked.session, asked.turn, rest.turn) == (rest.session, 1, 2)
            assert (other.heard, other.turn) == ("what time is it", 1)
            assert other.session != asked.session

    run(scenario())


def test_a_disk_that_cannot_write_that_it_goes_keeps_it_here(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP,), kitchen=()) as house:
            office = house.rooms["office"]
            await starts(office)
            recorder = office.room.conversation.recorder

            async def fails(*_: Any) -> None:
                raise StoreError("the disk is full")

            recorder.owned.write = fails  # type: ignore[method-assign]
            before = recorder.session
            house.begin("office", "kitchen")
            [[asked, rest]] = await house.rest("office")
            assert recorder.session == before
            assert rest.session == asked.session
            assert plain(f"{asked.spoken} {rest.spoken}") == plain(asked.said)

    run(scenario())


def test_timers_come_back_with_it(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=("set a timer for ten minutes", MOVE), kitchen=()) as house:
            office, kitchen = house.rooms["office"], house.rooms["kitchen"]
            kitchen.room.conversation.post(MuteSet(muted=True))
            await speaks(office)
            [timer] = await office.room.parts.timers.running()
            await speaks(office)
            assert await office.room.parts.timers.running() == [timer]
            assert await kitchen.room.parts.timers.running() == []

    run(scenario())


def test_a_persona_that_keeps_all_to_itself_stays_and_goes_on_speaking(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        personas = tmp_path / "office" / "personas" / "diary"
        personas.mkdir(parents=True)
        (personas / "config.yaml").write_text("name: Diary\negress: none\n")
        (personas / "system_prompt.md").write_text("You keep a diary.\n")
        office = scripted(HELP, **named("office"), personas={"dir": personas.parent, "default": "diary"})
        async with moving_house(tmp_path, office=office, kitchen=()) as house:
            sounded = sounding(house.rooms["office"])
            await starts(house.rooms["office"])
            await house.moved("office", "kitchen")
            [[asked], other] = await house.rest("office", "kitchen")
            assert (asked.persona, asked.ended, asked.spoken) == ("diary", Ended.COMPLETED, asked.said)
            assert "The kitchen can't take over, so I'll go on here." in sounded
            assert (other, house.bundles) == ([], [])

    run(scenario())


def test_what_waits_here_to_be_said_goes_on_to_the_next_room(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=()) as house:
            office = house.rooms["office"]
            house.rooms["kitchen"].room.conversation.post(MuteSet(muted=True))
            await walks_out(house)
            await until(office, "state.changed")
            while (await until(office, "turn.first_sound")).data.prompt is None:
                pass
            house.rooms["kitchen"].room.conversation.post(MuteSet(muted=False))
            await house.moved("office", "kitchen")
            [[asked, _], [rest]] = await house.rest("office", "kitchen")
            assert plain(f"{asked.spoken} {rest.spoken}") == plain(asked.said)

    run(scenario())


def test_a_room_that_was_started_again_still_knows_what_was_to_go(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP,), kitchen=()) as house:
            await starts(house.rooms["office"])
            house.rooms["office"].room.conversation.take_in(Dismiss(Source.HUB, Ended.MOVED))
            [asked] = await house.rooms["office"].at_rest()
        async with moving_house(tmp_path, one_session=False, office=(), kitchen=()) as house:
            await house.moved("office", "kitchen")
            [rest] = await house.rooms["kitchen"].at_rest()
            assert plain(f"{asked.spoken} {rest.spoken}") == plain(asked.said)

    run(scenario())


def test_what_was_set_while_another_room_had_it_stays_and_rings(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        heard = (MOVE, "set a timer for ten minutes")
        async with moving_house(tmp_path, office=heard[:1], kitchen=heard[1:]) as house:
            await speaks(house.rooms["office"])
            kitchen = house.rooms["kitchen"]
            await kitchen.at_rest()
            await speaks(kitchen)
            session = house.movers["kitchen"].standing()[0]
            assert session is not None
            behind = Release(handoff="old", session=session, epoch=3, target="office", target_room="office")
            reply = await house.tell("kitchen", behind)
            assert (reply.ok, reply.data["bundle"]["timers"]) == (True, [])
            assert len(await kitchen.room.parts.timers.running()) == 1
            assert house.movers["kitchen"].standing() == (None, 0)

    run(scenario())


# -------------------------------------------------------------------------------- once, however often told


def test_what_is_told_twice_is_done_once(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=()) as house:
            told: list[tuple[str, Release | Offer | Adopt]] = []

            def note(where: str, command: Release | Offer | Adopt) -> Reply | None:
                told.append((where, command))
                return None

            house.answers = note
            await walks_out(house)
            [[asked, _], [rest]] = await house.rest("office", "kitchen")
            house.answers = lambda *_: None
            released, *_ = [await house.tell(where, command) for where, command in told]
            assert released.data["bundle"]["rest"]["text"] == rest.said
            assert await house.rest("office", "kitchen") == [[], []]
            assert len(await graph(house.rooms["kitchen"])) == 4
            stale = told[0][1].model_copy(update={"handoff": "another"})
            assert (await house.tell("kitchen", stale)).code == Code.STALE
            assert house.movers["kitchen"].standing() == (asked.session, 1)

    run(scenario())


def test_following_the_rest_is_not_spoken_but_kept_as_cut(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP,), kitchen=("what time is it",)) as house:
            await starts(house.rooms["office"])
            kitchen = house.rooms["kitchen"]
            kitchen.device.visit(await somebody_speaks())
            await until(kitchen, "turn.begun")
            await house.moved("office", "kitchen", following=True)
            [[asked], [time]] = await house.rest("office", "kitchen")
            assert (asked.ended, time.session, time.turn) == (Ended.MOVED, asked.session, 2)
            assert time.heard == "what time is it"
            texts = [text for _, text in await graph(kitchen)]
            assert sorted(texts) == sorted([HELP, asked.spoken, time.heard, time.spoken])

    run(scenario())


def test_a_room_in_which_somebody_talks_is_not_left_by_who_follows(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, HELP), kitchen=()) as house:
            await speaks(house.rooms["office"])
            house.rooms["office"].device.visit(await somebody_speaks())
            await until(house.rooms["office"], "turn.begun")
            await house.moved("office", "kitchen", following=True)
            [turns, other] = await house.rest("office", "kitchen")
            assert ([turn.ended for turn in turns], other) == ([Ended.COMPLETED], [])

    run(scenario())


# --------------------------------------------------------------------------- cut off, and started again


def test_a_room_that_is_cut_off_for_long_begins_its_own_conversation(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=("what time is it",) * 3) as house:
            await walks_out(house)
            [[asked, _], _] = await house.rest("office", "kitchen")
            house.movers["kitchen"].link_changed(up=False)
            await asyncio.sleep(5)
            [soon] = await speaks(house.rooms["kitchen"])
            await asyncio.sleep(10)
            [late] = await speaks(house.rooms["kitchen"])
            assert (soon.session, late.session != asked.session) == (asked.session, True)
            house.movers["kitchen"].link_changed(up=True)
            [last] = await speaks(house.rooms["kitchen"])
            assert last.session == late.session

    run(scenario())


def test_after_a_restart_it_is_gone_on_with_once_the_hub_says_so(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=()) as house:
            await walks_out(house)
            [[asked, _], _] = await house.rest("office", "kitchen")
        async with moving_house(tmp_path, one_session=False, office=(HELP,), kitchen=("what time is it",)) as house:
            kitchen, office = house.rooms["kitchen"], house.rooms["office"]
            assert office.room.conversation.recorder.session is None
            assert kitchen.room.conversation.recorder.session is None
            assert house.movers["kitchen"].standing() == (asked.session, 1)
            again = Adopt(handoff="h", session=asked.session, epoch=1)
            assert (await house.tell("kitchen", again)).ok
            [time] = await speaks(kitchen)
            assert (time.session, time.turn) == (asked.session, 4)

    run(scenario())


def test_after_a_restart_it_goes_on_with_what_came_and_not_with_what_was_said_here_before(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=("what day is it",)) as house:
            [before] = await speaks(house.rooms["kitchen"])
            await walks_out(house)
            [[asked, _], _] = await house.rest("office", "kitchen")
            assert before.session != asked.session
        async with moving_house(tmp_path, one_session=False, office=(), kitchen=("what time is it",)) as house:
            assert house.movers["kitchen"].standing() == (asked.session, 1)
            assert (await house.tell("kitchen", Adopt(handoff="h", session=asked.session, epoch=1))).ok
            [time] = await speaks(house.rooms["kitchen"])
            assert time.session == asked.session

    run(scenario())


def test_what_a_room_says_by_itself_after_a_restart_does_not_end_the_conversation_that_came(
    run: Run[None], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=()) as house:
            await walks_out(house)
            [[asked, _], _] = await house.rest("office", "kitchen")
        async with moving_house(tmp_path, one_session=False, office=(), kitchen=("what time is it",)) as house:
            kitchen = house.rooms["kitchen"]
            kitchen.room.conversation.post(Prompt("I was cut off.", Source.SCHEDULE, verbatim=True))
            await kitchen.at_rest()
            assert (await house.tell("kitchen", Adopt(handoff="h", session=asked.session, epoch=1))).ok
            [time] = await speaks(kitchen)
            assert time.session == asked.session

    run(scenario())


def test_after_a_restart_without_the_hub_a_room_begins_its_own(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=()) as house:
            await walks_out(house)
            [[asked, _], _] = await house.rest("office", "kitchen")
        async with moving_house(tmp_path, one_session=False, office=(), kitchen=("what time is it",)) as house:
            [time] = await speaks(house.rooms["kitchen"])
            assert time.session != asked.session

    run(scenario())


def test_what_was_offered_survives_a_restart(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        adopt: list[Adopt] = []

        def dies(_: str, command: Release | Offer | Adopt) -> Reply | None:
            if isinstance(command, Adopt):
                adopt.append(command)
                return Reply(of=command.id)
            return None

        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=()) as house:
            house.answers = dies
            await walks_out(house)
            [[asked, _], nothing] = await house.rest("office", "kitchen")
            assert nothing == []
        async with moving_house(tmp_path, one_session=False, office=(), kitchen=()) as house:
            assert house.movers["kitchen"].standing() == (None, 0)
            assert (await house.tell("kitchen", adopt[0])).ok
            [rest] = await house.rooms["kitchen"].at_rest()
            assert plain(f"{asked.spoken} {rest.spoken}") == plain(asked.said)

    run(scenario())


def test_the_receipt_tells_that_a_conversation_left_the_machine(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with moving_house(tmp_path, office=(HELP, MOVE), kitchen=()) as house:
            await walks_out(house)
            await house.rest("office", "kitchen")
            ledger = house.rooms["office"].room.parts.minds.ledger
            await ledger.flush()
            [sent] = await house.rooms["office"].room.store.read("SELECT * FROM sent")
            assert (sent["host"], sent["kind"], sent["why"]) == ("hub.local", "text", "handoff")
            assert sent["bytes"] > 500

    run(scenario())
