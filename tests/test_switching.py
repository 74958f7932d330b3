"""Conversations with a room that speaks as somebody, then as somebody else, and keeps the two apart."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import Run
from rooms import room, scripted, speaks, until
from roomtone import switching
from roomtone.app import reachable
from roomtone.core.dialog import Ended, Source, Turn, Voice
from roomtone.core.persona import Persona, Trigger
from roomtone.core.signals import Prompt, Repeat, Switch, Wake
from roomtone.core.sound import Audio
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Settings
from roomtone.store import open_store

CHEF = "name: Chef\nvoice: {pitch: 0.8}\ntools: [timer]\n"
SECRET = "remember that the key is under the mat"


def persona(state_dir: Path, id_: str, config: str, **texts: str) -> Path:
    """Give the household a persona of its own; return its folder."""
    folder = state_dir / "personas" / id_
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(config)
    (folder / "system_prompt.md").write_text("You are one of several.")
    for name, text in texts.items():
        (folder / name.replace("_yaml", ".yaml")).write_text(text)
    return folder


@asynccontextmanager
async def household(state_dir: Path, *heard: str, **personas: str) -> AsyncIterator[Rehearsal]:
    """Open a room with the chef, and with others by their config."""
    for id_, config in {"chef": CHEF, **personas}.items():
        persona(state_dir, id_, config)
    async with room(scripted(*heard), state_dir) as rehearsal:
        yield rehearsal


async def asked(rehearsal: Rehearsal, text: str) -> Turn:
    """Return the turn that answers a typed text."""
    turn = await rehearsal.room.conversation.answer(Prompt(text, Source.CLI))
    await rehearsal.at_rest()
    return turn


def voices(rehearsal: Rehearsal) -> list[Voice]:
    """Note from here on in whose voice each sentence is spoken."""
    used: list[Voice] = []
    place = rehearsal.room.synthesiser.places[0]
    speak = place.engine.speak

    def noting(sentence: str, voice: Voice) -> AsyncIterator[Audio]:
        used.append(voice)
        return speak(sentence, voice)

    place.engine.speak = noting  # type: ignore[method-assign]
    return used


def sentences(rehearsal: Rehearsal) -> list[str]:
    """Note from here on what is spoken."""
    spoken: list[str] = []
    place = rehearsal.room.synthesiser.places[0]
    speak = place.engine.speak

    def noting(sentence: str, voice: Voice) -> AsyncIterator[Audio]:
        spoken.append(sentence)
        return speak(sentence, voice)

    place.engine.speak = noting  # type: ignore[method-assign]
    return spoken


async def switches(state_dir: Path) -> list[dict[str, Any]]:
    """Return the switches that were recorded, the first first."""
    async with open_store(state_dir / "roomtone.db") as store:
        return [dict(row) for row in await store.read("SELECT * FROM persona_switches ORDER BY id")]


def test_somebody_asks_for_the_chef_and_the_chef_answers_in_another_voice(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path, "let me talk to the chef", "who are you") as rehearsal:
            used = voices(rehearsal)
            [switch] = await speaks(rehearsal)
            assert (switch.intent, switch.spoken) == ("persona.switch", "Chef here.")
            [who] = await speaks(rehearsal)
            assert (who.persona, who.spoken) == ("chef", "I'm Chef.")
            assert [voice.pitch for voice in used] == [0.8, 0.8]

    run(scenario())


def test_each_switch_is_recorded_with_its_cause(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path, "let me talk to the chef") as rehearsal:
            await speaks(rehearsal)
            rehearsal.room.conversation.post(Wake(Source.BUTTON, persona="companion"))
            await until(rehearsal, "persona.switched")
            rehearsal.room.conversation.post(Switch("chef", Source.SCHEDULE, "schedule dinner"))
            await until(rehearsal, "persona.switched")
        rows = await switches(tmp_path)
        told = [(row["earlier"], row["persona"], row["source"], row["cause"]) for row in rows]
        assert told == [
            ("companion", "chef", "voice", "let me talk to the chef"),
            ("chef", "companion", "button", ""),
            ("companion", "chef", "schedule", "schedule dinner"),
        ]
        assert all(row["room"] == "room" and row["took_ms"] > 0 for row in rows)

    run(scenario())


def test_a_button_wakes_the_room_as_its_persona(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path, "who are you") as rehearsal:
            rehearsal.room.conversation.post(Wake(Source.BUTTON, persona="chef"))
            [turn] = await speaks(rehearsal)
            assert (turn.persona, turn.spoken) == ("chef", "I'm Chef.")

    run(scenario())


def test_a_schedule_waits_until_the_answer_is_over(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            used = voices(rehearsal)
            conversation = rehearsal.room.conversation
            conversation.post(Prompt("One. Two. Three.", Source.CLI, verbatim=True))
            await until(rehearsal, "turn.first_sound")
            conversation.post(Switch("chef", Source.SCHEDULE))
            conversation.post(Prompt("Dinner.", Source.SCHEDULE, verbatim=True))
            turns = await rehearsal.at_rest()
            assert [(turn.persona, turn.spoken) for turn in turns] == [
                ("companion", "One. Two. Three."),
                ("chef", "Dinner."),
            ]
            assert [voice.pitch for voice in used] == [1.0, 1.0, 1.0, 0.8]

    run(scenario())


def test_what_follows_a_switch_at_once_belongs_to_who_was_called(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            conversation = rehearsal.room.conversation
            for one in ("chef", "companion", "chef"):
                conversation.post(Switch(one, Source.CLI))
            turn = await conversation.answer(Prompt("who are you", Source.CLI))
            assert (turn.persona, turn.spoken) == ("chef", "I'm Chef.")
            assert conversation.recorder.session is not None
            assert conversation.recorder.session.persona == "chef"

    run(scenario())


def test_somebody_who_is_not_there_is_told_aloud_and_nothing_changes(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            rehearsal.room.conversation.post(Switch("sea-pirate", Source.BUTTON))
            [told] = await rehearsal.at_rest()
            assert "sea pirate" in told.spoken
            assert (await asked(rehearsal, "who are you")).spoken == "I'm Companion."
            unknown = await asked(rehearsal, "let me talk to the pirate")
            assert "don't know pirate" in unknown.spoken
            assert "Chef" in unknown.spoken

    run(scenario())


def test_a_persona_that_is_broken_cannot_be_switched_to_and_says_so(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path, broken="name: Broken\ntools: [tmier]\n") as rehearsal:
            refused = await asked(rehearsal, "let me talk to broken")
            assert (refused.ended, refused.spoken) == (
                Ended.FAILED,
                "Something is wrong with the files of broken, so I stay.",
            )
            assert (await asked(rehearsal, "who are you")).persona == "companion"

    run(scenario())


def test_a_secret_told_to_one_cannot_be_had_from_another(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            store = rehearsal.room.store
            await asked(rehearsal, SECRET)
            await asked(rehearsal, "let me talk to the chef")
            for question in ("say that again", "what did you say", "why were you slow", "what do you know about me"):
                turn = await asked(rehearsal, question)
                assert turn.persona == "chef"
                assert "mat" not in turn.said
            session = rehearsal.room.conversation.recorder.session
            assert session is not None
            assert session.persona == "chef"
            [tip] = rehearsal.room.conversation.recorder.tips
            path = await store.ancestry(tip)
            assert {message.persona for message in path} == {"chef"}
            assert not [message for message in path if "mat" in message.text]
            await asked(rehearsal, "let me talk to the companion")
            [tip] = rehearsal.room.conversation.recorder.tips
            assert SECRET in [message.text for message in await store.ancestry(tip)]

    run(scenario())


def test_two_taps_repeat_what_who_speaks_said_and_nobody_else(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            told = await asked(rehearsal, "remind me to look under the mat in ten minutes")
            assert "mat" in told.spoken
            said = sentences(rehearsal)
            for persona, expected in (("chef", "I haven't said anything yet."), ("companion", told.spoken)):
                rehearsal.room.conversation.post(Switch(persona, Source.BUTTON))
                await rehearsal.at_rest()
                rehearsal.room.conversation.post(Repeat())
                await rehearsal.at_rest()
                assert said[-1] == expected

    run(scenario())


def test_a_notebook_is_its_personas_alone(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            conversation = rehearsal.room.conversation
            companions = conversation._host.household(_live())
            await companions.remember("secret", "under the mat")
            await asked(rehearsal, "let me talk to the chef")
            chefs = conversation._host.household(_live())
            assert await chefs.remembered("secret") is None
            assert await companions.remembered("secret") == "under the mat"

    run(scenario())


def _live() -> Any:
    from roomtone.turn.live import LiveTurn

    return LiveTurn(0, prompt=Prompt("", Source.CLI))


def test_who_asks_to_be_forgotten_is_forgotten_by_every_persona(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            conversation, store = rehearsal.room.conversation, rehearsal.room.store
            await conversation._host.household(_live()).remember("secret", "under the mat")
            await asked(rehearsal, "let me talk to the chef")
            await conversation._host.household(_live()).remember("secret", "in the flour")
            await store.erase()
            everything = [line async for line in store.export()]
            told = [line for line in everything if '"table": "persona_versions"' not in line]
            assert not [line for line in told if "mat" in line or "flour" in line or "let me" in line]
            assert (await asked(rehearsal, "who are you")).persona == "chef"

    run(scenario())


@pytest.mark.parametrize(
    ("context", "knows", "same"), [("own", set(), True), ("fresh", set(), False), ("shared", {SECRET}, False)]
)
def test_context_is_kept_or_dropped_as_the_persona_says(
    run: Run[None], tmp_path: Path, context: str, knows: set[str], same: bool
) -> None:
    async def scenario() -> None:
        async with household(tmp_path, guest=f"name: Guest\ncontext: {context}\n") as rehearsal:
            await asked(rehearsal, "let me talk to the guest")
            first = await asked(rehearsal, "what time is it")
            await asked(rehearsal, "let me talk to the companion")
            await asked(rehearsal, SECRET)
            await asked(rehearsal, "let me talk to the guest")
            second = await asked(rehearsal, "who are you")
            assert (second.session == first.session) is same
            [tip] = rehearsal.room.conversation.recorder.tips
            texts = {message.text for message in await rehearsal.room.store.ancestry(tip)}
            assert texts & {SECRET} == knows

    run(scenario())


def test_an_answer_to_nobodys_question_is_not_taken_for_one(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            offered = await asked(rehearsal, "forget what i said today")
            if offered.offers is None:
                pytest.skip("nothing was offered")
            await asked(rehearsal, "let me talk to the chef")
            agreed = await asked(rehearsal, "yes")
            assert agreed.intent != offered.offers.intent

    run(scenario())


def test_who_spoke_last_speaks_after_a_restart(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            await asked(rehearsal, "let me talk to the chef")
        async with room(scripted(), tmp_path) as rehearsal:
            assert (await asked(rehearsal, "who are you")).spoken == "I'm Chef."

    run(scenario())


def test_a_persona_that_is_gone_after_a_restart_gives_way_to_the_default(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path, guest="name: Guest\n") as rehearsal:
            await asked(rehearsal, "let me talk to the guest")
        os.rename(tmp_path / "personas" / "guest", tmp_path / "personas" / "_gone.bak")
        async with room(scripted(), tmp_path) as rehearsal:
            assert (await asked(rehearsal, "who are you")).persona == "companion"

    run(scenario())


def test_the_tools_of_one_are_not_anothers(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            await asked(rehearsal, "let me talk to the chef")
            refused = await asked(rehearsal, "add milk to the shopping list")
            assert refused.answered_by == "offline"
            assert refused.spoken.startswith("That's not for me.")
            assert (await asked(rehearsal, "set a timer for one minute")).intent == "timer.set"
            assert await rehearsal.room.store.items() == []

    run(scenario())


def test_a_slow_switch_is_told_with_the_stage_that_cost_it(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(switching, "BUDGET_MS", 0.0)

    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            await asked(rehearsal, "let me talk to the chef")

    with caplog.at_level(logging.WARNING, "roomtone.switching"):
        run(scenario())
    [line] = [record.getMessage() for record in caplog.records if "the switch to chef took" in record.getMessage()]
    assert any(stage in line for stage in ("reading its files", "taking up its conversation", "writing it down"))


def test_who_can_be_called_at_any_moment_is_made_ready_ahead() -> None:
    shown = [Persona(id=id_, name=id_) for id_ in ("chef", "butler", "tutor", "guest")]
    nightly = Persona(id="nightly", name="Night", trigger_types=frozenset({Trigger.SCHEDULE}), schedule_cron="@daily")
    told: dict[str, Any] = {
        "schedules": {"dinner": {"cron": "0 18 * * *", "persona": "chef"}},
        "events": {"doorbell": {"persona": "butler"}},
    }
    board = {"gpio": {"board": "desk-panel", "buttons": {"left": {"persona": "tutor"}}}}
    assert reachable(Settings(), shown) == []
    assert reachable(Settings.model_validate(told), [*shown, nightly]) == ["chef", "butler", "nightly"]
    assert reachable(Settings.model_validate(told | board), shown) == ["chef", "butler", "tutor"]


def test_a_full_disk_does_not_keep_anybody_from_switching(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            store = rehearsal.room.store
            full = "BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
            await store.write((f"CREATE TRIGGER full BEFORE INSERT ON persona_switches {full}", ()))
            assert (await asked(rehearsal, "let me talk to the chef")).spoken == "Chef here."
            assert (await asked(rehearsal, "who are you")).persona == "chef"

    run(scenario())
    assert "is not kept" in caplog.text


def test_switching_back_and_forth_a_hundred_times_leaves_two_conversations(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with household(tmp_path) as rehearsal:
            for one in ("chef", "companion") * 50:
                rehearsal.room.conversation.post(Switch(one, Source.CLI))
                await until(rehearsal, "persona.switched")
                await asked(rehearsal, "what time is it")
            await asyncio.sleep(0)
            sessions = await rehearsal.room.store.sessions(1000)
            assert sorted(session.persona for session in sessions) == ["chef", "companion"]
            turns = await rehearsal.room.store.history(1000)
            assert {turn.persona for turn in turns if turn.session == sessions[0].id} == {sessions[0].persona}

    run(scenario())


def test_what_cannot_be_made_ready_in_advance_ends_no_conversation(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def preferences(_: str) -> None:
        raise KeyError("a memory of another package")

    async def scenario() -> None:
        persona(tmp_path, "chef", CHEF)
        llm = {"route": ["pi"], "providers": {"pi": {"engine": "script", "texts": ["Soup."]}}}
        async with room(scripted(llm=llm), tmp_path) as rehearsal:
            monkeypatch.setattr(rehearsal.room.parts.minds.memory, "preferences", preferences)
            assert (await asked(rehearsal, "let me talk to the chef")).persona == "companion"
            turn = await asked(rehearsal, "what is for dinner")
            assert (turn.persona, turn.said) == ("chef", "Soup.")

    run(scenario())
