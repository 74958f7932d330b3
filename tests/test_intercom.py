"""Somebody says something to another room, and it is heard there, as it was said."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Run
from rooms import somebody_speaks, until
from roomtone.clock import utc_now
from roomtone.core.dialog import Ended, Source
from roomtone.core.errors import AudioError
from roomtone.core.signals import Dismiss, Muter, MuteSet, Prompt
from roomtone.core.sound import RATE, Audio, join, to_int16
from roomtone.core.wire import LONGEST_MESSAGE_S, Piece, Reply, Say, read
from roomtone.intercom import LOUDNESS_DBFS, decode, encode, levelled, message_of
from roomtone.mouth import ANNOUNCING_CHIME
from roomtone.outbound.receipt import sent_since
from roomtone.utterance import Utterance
from small_house import SmallHouse, furnished, small_house

MESSAGE = ("send a message to the kitchen", "what a recogniser makes of a message")


def pieces(house: SmallHouse) -> list[Piece]:
    """List what was sent of recorded messages, by rooms and hub."""
    return [read(Piece, payload) for payload in house.wire.payloads("/audio")]


async def sends(house: SmallHouse) -> str:
    """Let somebody in the bedroom send a message; return what the bedroom says to that."""
    [asked] = await house.speaks("bedroom")
    assert asked.said == "Go ahead."
    [message] = await house.speaks("bedroom")
    assert message.heard == ""
    return message.said


async def tells(house: SmallHouse, where: str, **order: Any) -> Reply:
    """Let the house tell a room something."""
    topics = house.hub.link.topics
    to, back = topics.device(f"{where}-1", "command"), topics.device(f"{where}-1", "reply")
    return await house.hub.link.ask(to, Say(**order), response_topic=back, within_s=2)


# --------------------------------------------------------------------------------------------- texts


def test_a_text_is_said_in_the_room_it_is_for(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=("tell the kitchen that dinner is Late",)) as house:
            [asked] = await house.speaks("bedroom")
            [told] = await house.rests("kitchen")
            assert asked.said == "Said in the kitchen."
            assert (told.said, told.source) == ("From the bedroom: dinner is Late", "hub")

    run(main())


def test_everyone_is_every_other_room(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        texts = ("tell everyone that dinner is late",)
        async with small_house(tmp_path, kitchen=(), office=(), bedroom=texts) as house:
            [asked] = await house.speaks("bedroom")
            assert asked.said == "Said in the kitchen and the office."
            for where in ("kitchen", "office"):
                [told] = await house.rests(where)
                assert told.said == "From the bedroom: dinner is late"
            assert await house.rests("bedroom") == []

    run(main())


def test_a_room_that_is_gone_is_said_to_be_off(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=("tell the kitchen that dinner is late",)) as house:
            house.link("kitchen").cut()
            await asyncio.sleep(1)
            [asked] = await house.speaks("bedroom")
            assert asked.said == "The kitchen is off."

    run(main())


def test_without_a_way_to_the_others_that_is_said(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=("tell the kitchen dinner is late", *MESSAGE)) as house:
            house.link("bedroom").cut()
            [told] = await house.speaks("bedroom")
            assert told.said == "I can't reach the other rooms at the moment."

    run(main())


def test_what_comes_in_quiet_hours_is_said_when_they_are_over(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=("tell the kitchen that dinner is late",)) as house:
            quiet = house.rooms["kitchen"].room.parts.quiet
            await quiet.keep_for(600)
            [asked] = await house.speaks("bedroom")
            assert asked.said == "It's quiet in the kitchen, so I'll say it there later."
            assert await house.rests("kitchen") == []
            await asyncio.sleep(700)
            [told] = await house.rests("kitchen")
            assert told.said == "From the bedroom: dinner is late"

    run(main())


def test_what_is_urgent_is_said_in_quiet_hours_too(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=()) as house:
            await house.rooms["kitchen"].room.parts.quiet.keep_for(600)
            reply = await house.hub.announce(text="the bath runs over", urgent=True)
            assert reply.data == {"v": 1, "rooms": ["kitchen"], "missed": []}
            [told] = await house.rests("kitchen")
            assert told.said == "the bath runs over"

    run(main())


def test_a_room_whose_microphone_is_off_is_told_and_does_not_listen(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=("anything",), bedroom=("tell the kitchen hello",)) as house:
            kitchen = house.rooms["kitchen"].room.conversation
            kitchen.post(MuteSet(True, Muter.HOUSEHOLD))
            [asked] = await house.speaks("bedroom")
            assert asked.said == "Said in the kitchen."
            [told] = await house.rests("kitchen")
            assert told.said == "From the bedroom: hello"
            assert kitchen.state.mode == "idle"

    run(main())


def test_a_chime_goes_before_what_nobody_here_asked_for(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), office=()) as house:
            await tells(house, "kitchen", text="hello", answer_to="bedroom-1", chime=True)
            await tells(house, "office", text="hello", answer_to="bedroom-1")
            await house.rests("kitchen")
            await house.rests("office")
            chimed, plain = (house.rooms[name].device.played for name in ("kitchen", "office"))
            assert likeness(ANNOUNCING_CHIME, chimed) > 0.98
            assert likeness(ANNOUNCING_CHIME, plain) < 0.9

    run(main())


def test_an_announcement_may_have_a_voice_of_its_own(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=()) as house:
            kitchen = house.rooms["kitchen"].room
            with kitchen.feed.watch("turn.first_sound") as begun:
                await tells(house, "kitchen", text="dinner is ready", persona="chef", answer_to="bedroom-1")
                await tells(house, "kitchen", text="and so is the tea", persona="stranger", answer_to="bedroom-1")
                told = [turn.said for turn in await house.rests("kitchen")]
                assert told == ["dinner is ready", "and so is the tea"]
                by = [(await anext(begun)).data.answer.by for _ in range(2)]
            assert [persona and persona.id for persona in by] == ["chef", None]
            assert kitchen.conversation.speaker.persona.id == "companion"

    run(main())


# --------------------------------------------------------------------------------- recorded messages


def test_a_message_is_carried_as_it_was_said(run: Run[None], tmp_path: Path) -> None:
    """What the kitchen plays rises and falls as what was said in the bedroom."""

    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=MESSAGE) as house:
            assert await sends(house) == "Said in the kitchen."
            [told] = await house.rests("kitchen")
            assert (told.said, told.spoken) == ("From the bedroom.", "From the bedroom.")
            played = house.rooms["kitchen"].device.played
            assert likeness(await somebody_speaks(), played) > 0.9
            assert likeness(await somebody_speaks("something else that was never said"), played) < 0.7

    run(main())


FRAME = 320


def likeness(said: Audio, within: Audio) -> float:
    """Return how well the loudness of one sound, frame by frame, is found anywhere in another (at most 1)."""
    wanted = envelope(said)
    wanted = wanted - wanted.mean()
    best = 0.0
    for offset in range(0, FRAME, FRAME // 8):  # it may begin anywhere within a frame
        there = envelope(Audio(within.samples[offset:], within.rate))
        for start in range(len(there) - len(wanted)):
            part = there[start : start + len(wanted)] - there[start : start + len(wanted)].mean()
            best = max(best, float(part @ wanted / max(1e-9, np.linalg.norm(part) * np.linalg.norm(wanted))))
    return best


def envelope(sound: Audio) -> np.ndarray[Any, np.dtype[np.float64]]:
    frames = sound.samples[: len(sound) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    loud: np.ndarray[Any, np.dtype[np.float64]] = np.sqrt((frames**2).mean(axis=1))
    return loud


def test_what_was_said_leaves_no_words_behind(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=MESSAGE) as house:
            await sends(house)
            await house.rests("kitchen")
            for where in ("kitchen", "bedroom"):
                kept = (tmp_path / where / "roomtone.db").read_bytes()
                wal = (tmp_path / where / "roomtone.db-wal").read_bytes()
                assert b"what a recogniser makes" not in kept + wal
                assert b"OpusHead" not in kept + wal

    run(main())


@pytest.mark.parametrize("words", ["never mind", "Stop!"])
def test_a_message_can_be_taken_back(run: Run[None], tmp_path: Path, words: str) -> None:
    async def main() -> None:
        texts = ("send a message to the kitchen", words, "what time is it")
        async with small_house(tmp_path, kitchen=(), bedroom=texts) as house:
            await house.speaks("bedroom")
            [taken_back] = await house.speaks("bedroom")
            assert taken_back.heard == words
            [next_] = await house.speaks("bedroom")
            assert next_.intent == "clock.time"
            assert pieces(house) == []
            assert await house.rests("kitchen") == []

    run(main())


def test_who_says_nothing_in_time_sends_nothing(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        texts = ("send a message to the kitchen", "what time is it")
        async with small_house(tmp_path, kitchen=(), bedroom=texts) as house:
            await house.speaks("bedroom")
            await asyncio.sleep(15)
            [later] = await house.speaks("bedroom")
            assert later.intent == "clock.time"

    run(main())


def test_a_message_needs_no_recogniser(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        bedroom = furnished("bedroom", *MESSAGE, stt={"fail_at": 2})
        async with small_house(tmp_path, kitchen=(), bedroom=bedroom) as house:
            assert await sends(house) == "Said in the kitchen."

    run(main())


def test_a_room_that_listens_to_nobody_after_an_answer_listens_for_a_message(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        bedroom = furnished("bedroom", *MESSAGE, listen={"mode": "button", "follow_up_s": 0})
        async with small_house(tmp_path, kitchen=(), bedroom=bedroom) as house:
            await house.rooms["bedroom"].room.conversation.answer(Prompt(MESSAGE[0], Source.CLI))
            await until(house.rooms["bedroom"], "turn.ended")
            house.rooms["bedroom"].device.visit(await somebody_speaks())
            told = (await house.rests("bedroom"))[-1]
            assert told.said == "Said in the kitchen."

    run(main())


def test_a_pause_for_breath_ends_no_message(run: Run[None], tmp_path: Path) -> None:
    """A recogniser of commands may take its beginning for a whole one."""

    async def main() -> None:
        texts = ("send a message to the kitchen", "what time is it")
        bedroom = furnished("bedroom", *texts, stt={"whole_partials": True})
        async with small_house(tmp_path, kitchen=(), bedroom=bedroom) as house:
            await house.speaks("bedroom")
            half = await somebody_speaks()
            breath = Audio(np.zeros(round(0.8 * RATE), np.int16))
            house.rooms["bedroom"].device.visit(join([half, breath, half], RATE))
            [told] = await house.rests("bedroom")
            assert told.said == "Said in the kitchen."
            assert pieces(house)[0].seconds > 2 * half.seconds

    run(main())


def test_a_message_can_be_stopped_while_it_is_played(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=MESSAGE) as house:
            await house.speaks("bedroom")
            long = await somebody_speaks("one two three four five six seven eight nine ten " * 3)
            house.rooms["bedroom"].device.visit(long)
            await until(house.rooms["kitchen"], "turn.first_sound")
            await asyncio.sleep(4)
            house.rooms["kitchen"].room.conversation.post(Dismiss())
            [told] = await house.rests("kitchen")
            assert (told.ended, told.spoken) == (Ended.DISMISSED, "From the bedroom.")
            queued = house.rooms["kitchen"].room.parts.mouth.loudspeaker.queued
            assert queued < (long.seconds + 2) * RATE

    run(main())


def test_an_answer_goes_back_to_who_spoke(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        kitchen = ("send a reply", "ten minutes", "reply: in ten minutes")
        async with small_house(tmp_path, kitchen=kitchen, bedroom=MESSAGE) as house:
            await sends(house)
            await house.rests("kitchen")
            [asked] = await house.speaks("kitchen")
            assert asked.said == "Go ahead."
            [answered] = await house.speaks("kitchen")
            assert answered.said == "Said in the bedroom."
            assert (await house.rests("bedroom"))[0].said == "From the kitchen."
            [short] = await house.speaks("kitchen")
            assert short.said == "Said in the bedroom."
            assert (await house.rests("bedroom"))[0].said == "From the kitchen: in ten minutes"

    run(main())


def test_nothing_leaves_a_room_whose_persona_keeps_all_to_itself(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        bedroom = furnished("bedroom", *MESSAGE, "tell the kitchen hello", personas={"default": "storyteller"})
        async with small_house(tmp_path, kitchen=(), bedroom=bedroom) as house:
            assert await sends(house) == "I keep to myself what is said to me, so I can't send it anywhere."
            [told] = await house.speaks("bedroom")
            assert told.said == "I keep to myself what is said to me, so I can't send it anywhere."
            assert pieces(house) == []
            assert await house.rests("kitchen") == []

    run(main())


def test_what_left_the_room_is_on_its_receipt(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        texts = ("tell the kitchen that tea is ready", *MESSAGE)
        async with small_house(tmp_path, kitchen=(), bedroom=texts) as house:
            since = utc_now() - timedelta(hours=1)
            await house.speaks("bedroom")
            await sends(house)
            sent = await sent_since(house.rooms["bedroom"].room.parts.minds.ledger, since)
            assert [(each.kind, each.why, each.host) for each in sent] == [
                ("text", "announcement", "hub.local"),
                ("audio", "intercom", "hub.local"),
            ]
            assert sent[1].bytes == sum(len(piece.sound) for piece in pieces(house)) / 2

    run(main())


def test_a_message_that_waits_too_long_is_only_told_of(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=MESSAGE) as house:
            quiet = house.rooms["kitchen"].room.parts.quiet
            await quiet.keep_for(2 * 3600)
            assert await sends(house) == "It's quiet in the kitchen, so I'll say it there later."
            await asyncio.sleep(2.1 * 3600)
            [told] = await house.rests("kitchen")
            assert told.said == "From the bedroom. The message itself is not kept any more."

    run(main())


def test_a_message_that_waits_is_played_once_it_is_quiet_no_more(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=(), bedroom=MESSAGE) as house:
            await house.rooms["kitchen"].room.parts.quiet.keep_for(600)
            await sends(house)
            await asyncio.sleep(700)
            [told] = await house.rests("kitchen")
            assert told.said == "From the bedroom."
            assert likeness(await somebody_speaks(), house.rooms["kitchen"].device.played) > 0.9

    run(main())


def test_an_order_to_play_what_never_came_is_refused(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with small_house(tmp_path, kitchen=()) as house:
            reply = await tells(house, "kitchen", audio="a-message-that-is-not-there", sender="bedroom")
            assert (reply.ok, reply.code) == (False, "PAYLOAD_ERROR")
            assert await house.rests("kitchen") == []

    run(main())


# ---------------------------------------------------------------------------------------------- sound


def spoken(seconds: float, dbfs: float) -> Audio:
    """Return a tone that comes and goes, as loud as that where it is there."""
    time = np.arange(round(seconds * RATE)) / RATE
    there = (time % 0.5) < 0.25
    return Audio(to_int16(np.sin(2 * np.pi * 220 * time) * there * 32768 * np.sqrt(2) * 10 ** (dbfs / 20)))


def test_a_message_is_small_and_sounds_as_it_did() -> None:
    sound = spoken(10.0, -22.0)
    packed = encode(sound)
    assert len(packed) < 60_000
    again = decode(packed)
    assert again.rate == RATE
    assert abs(len(again) - len(sound)) < RATE // 50
    assert likeness(sound.cut(RATE, 5 * RATE), again) > 0.99


BROKEN = {
    "nothing": b"",
    "a beginning": b"OggS",
    "words": b"no sound at all" * 100,
    "cut": encode(spoken(1.0, -22.0))[:60],
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_is_no_message_is_refused(broken: bytes) -> None:
    with pytest.raises(AudioError):
        decode(broken)


@pytest.mark.parametrize("dbfs", [-45.0, -30.0, -22.0, -12.0])
def test_who_speaks_softly_is_heard_as_well(dbfs: float) -> None:
    level = levelled(spoken(3.0, dbfs))
    loud = Audio(level.samples[: RATE // 4])
    assert loud.dbfs == pytest.approx(LOUDNESS_DBFS, abs=1.5)
    assert int(np.abs(level.samples.astype(np.int32)).max()) < 32767


def test_silence_stays_silence() -> None:
    assert levelled(Audio(np.zeros(RATE, np.int16))).dbfs < -90
    assert len(levelled(Audio(np.zeros(0, np.int16)))) == 0


def test_a_message_has_no_more_than_thirty_seconds_and_no_waiting_at_its_end() -> None:
    utterance = Utterance(speech_at=0.3)
    for _ in range(40):
        utterance.add(Audio(np.zeros(RATE, np.int16)))
    assert message_of(utterance).seconds == LONGEST_MESSAGE_S
    short = Utterance(speech_at=0.3)
    short.add(Audio(np.zeros(4 * RATE, np.int16)))
    short.end(last_speech_at=2.6, ended_at=4.0)
    assert message_of(short).seconds == pytest.approx(2.85)
    assert len(message_of(Utterance(speech_at=0.0))) == 0
