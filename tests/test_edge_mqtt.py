"""What a room tells its house, and the commands that it takes, good and bad."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conftest import Run
from house_wire import Wire, WireLink
from rooms import HELP, room, scripted, speaks
from roomtone.clock import utc_now
from roomtone.conversation import Outcome
from roomtone.core.dialog import Source, Timer, TimerKind, Turn, TurnError
from roomtone.core.errors import PayloadError
from roomtone.core.signals import Muter, MuteSet
from roomtone.core.wire import (
    LONGEST,
    Ask,
    Asked,
    Listen,
    Mute,
    Presence,
    Quieten,
    Release,
    Reply,
    Say,
    SetTimers,
    State,
    Stop,
    Topics,
    UsePersona,
    Volume,
    read,
    write,
)
from roomtone.edges.commands import AT_ONCE, Unmoved, parse
from roomtone.edges.mqtt import Identity, without_texts
from roomtone.flow import beside
from roomtone.joining import Joined, joined
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Device, Hub

TOPICS = Topics("home")
COMMAND, REPLY = TOPICS.device("kitchen-1", "command"), TOPICS.device("kitchen-1", "reply")
KITCHEN = {"id": "kitchen-1", "name": "Kitchen speaker", "room": "kitchen"}


@dataclass
class House:
    """A kitchen in its house, and somebody else there who can tell it to do something."""

    wire: Wire
    kitchen: Joined
    rehearsal: Rehearsal
    hub: WireLink

    async def tells(self, command: Asked | bytes) -> Reply:
        """Send a command and return its reply."""
        return await self.hub.ask(COMMAND, command, response_topic=REPLY, within_s=5)

    @property
    def states(self) -> list[State]:
        """List what the kitchen has told of how it stands."""
        return [read(State, payload) for payload in self.wire.payloads("kitchen-1/state")]

    @property
    def turns(self) -> list[dict[str, Any]]:
        """List the turns it has told of."""
        return [json.loads(payload) for payload in self.wire.payloads("kitchen-1/turn")]


@asynccontextmanager
async def house(tmp_path: Path, *heard: str, **sections: Any) -> AsyncIterator[House]:
    """Open a kitchen that has joined, and come to rest."""
    wire = sections.pop("wire", None) or Wire()
    hub_settings = {"url": "mqtts://hub.local", **sections.pop("hub", {})}
    settings = scripted(*heard, device=KITCHEN, hub=hub_settings, **sections)
    hub = wire.link_of(Hub(), "hub", lambda: Presence(id="hub", online=True), TOPICS.hub())
    async with (
        room(settings, tmp_path) as rehearsal,
        joined(rehearsal.room, link_of=wire.link_of) as kitchen,
        beside(hub.run(), "hub"),
    ):
        await rests()
        yield House(wire, kitchen, rehearsal, hub)


async def rests() -> None:
    await asyncio.sleep(1)


def personas(folder: Path, **egress: str) -> Path:
    """Make personas that let what is said to them travel so far."""
    for name, far in egress.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.yaml").write_text(yaml.safe_dump({"name": name.title(), "egress": far}))
        (folder / name / "system_prompt.md").write_text("Be kind.")
    return folder


def timer(**fields: Any) -> Timer:
    return Timer(**{"id": "t1", "name": "pasta", "due": utc_now() + timedelta(minutes=9), "seconds": 540, **fields})


# --------------------------------------------------------------------------------------- what it tells


def test_a_room_says_who_it_is_and_how_it_stands(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            presence = read(Presence, here.wire.retained[TOPICS.device("kitchen-1", "presence")])
            assert (presence.online, presence.room, presence.name) == (True, "kitchen", "Kitchen speaker")
            assert "companion" in presence.personas
            state = read(State, here.wire.retained[TOPICS.device("kitchen-1", "state")])
            assert (state.state, state.persona, state.muted, state.serves) == ("idle", "companion", False, True)

    run(main())


def test_a_name_that_is_too_long_for_the_wire_is_cut() -> None:
    long = Identity(Device(id="k", name="n" * 200, room="r" * 200)).presence()
    assert (long.room, long.name) == ("r" * 60, "n" * 60)
    assert Identity(Device(id="k", room=" ")).presence().room == "k"


def test_what_is_said_at_length_is_told_at_less(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, hub={"share_texts": True}) as here:
            here.rehearsal.room.feed.publish("turn.ended", Outcome(long_turn(), None), source="test")
            await rests()
            assert len(here.states[-1].said) == 10_000
            assert len(here.turns[-1]["said"]) == 30_000

    run(main())


def long_turn() -> Turn:
    words = "word " * 6000
    who = {"session": "s", "room": "kitchen", "persona": "companion", "source": Source.VOICE}
    return Turn(turn=1, trace="t", heard="go on", said=words, spoken=words, **who)  # type: ignore[arg-type]


def test_a_room_that_leaves_says_so(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            wire = here.wire
        assert not read(Presence, wire.retained[TOPICS.device("kitchen-1", "presence")]).online

    run(main())


def test_each_run_is_another_instance(run: Run[None], tmp_path: Path) -> None:
    seen = []

    async def main() -> None:
        async with house(tmp_path) as here:
            seen.append(here.kitchen.identity.presence().instance)

    run(main())
    run(main())
    assert len(set(seen)) == 2


def test_a_turn_is_told_without_its_words(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, HELP) as here:
            [turn] = await speaks(here.rehearsal)
            await rests()
            [told] = here.turns
            assert (told["v"], told["trace"], told["answered_by"]) == (1, turn.trace, turn.answered_by)
            assert not told["heard"]
            assert not told["said"]
            assert not told["spoken"]
            sent = b"".join(payload for _, payload in here.wire.sent)
            assert turn.spoken.encode() not in sent
            assert HELP.encode() not in sent
            assert not any(state.heard or state.said for state in here.states)

    run(main())


def test_what_is_erased_here_the_broker_keeps_no_more(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, HELP, hub={"share_texts": True}) as here:
            [turn] = await speaks(here.rehearsal)
            await rests()
            kept = TOPICS.device("kitchen-1", "state")
            assert turn.spoken.encode() in here.wire.retained[kept]
            await here.rehearsal.room.conversation.erase()
            await rests()
            assert turn.spoken.encode() not in here.wire.retained[kept]
            assert HELP.encode() not in here.wire.retained[kept]

    run(main())


def test_of_a_turn_that_failed_its_words_stay_here_and_the_code_is_told() -> None:
    error = TurnError(code="TOOL_ERROR", message="there is no light called Anna's secret lamp")
    turn = Turn(turn=1, trace="t", session="s", room="kitchen", persona="companion", source=Source.VOICE, error=error)
    told = without_texts(turn)
    assert told.error == TurnError(code="TOOL_ERROR", message="")


def test_a_household_that_shares_texts_finds_them_on_its_receipt(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, HELP, hub={"share_texts": True}) as here:
            [turn] = await speaks(here.rehearsal)
            await rests()
            [told] = here.turns
            assert (told["heard"], told["spoken"]) == (HELP, turn.spoken)
            assert (here.states[-1].heard, here.states[-1].said) == (HELP, turn.spoken)
            receipts = here.rehearsal.room.parts.minds.ledger
            [row] = await receipts.read("SELECT * FROM sent WHERE trace = ?", turn.trace)
            assert (row["host"], row["reach"], row["kind"], row["why"]) == ("hub.local", "lan", "text", "turn")

    run(main())


def test_what_is_said_to_a_persona_that_lets_nothing_out_stays_in_the_room(run: Run[None], tmp_path: Path) -> None:
    folder = personas(tmp_path / "personas", diary="none", friend="lan")

    async def main(persona: str, shared: bool) -> None:
        speaks_as = {"dir": str(folder), "default": persona}
        async with house(tmp_path / persona, HELP, hub={"share_texts": True}, personas=speaks_as) as here:
            await speaks(here.rehearsal)
            await rests()
            assert bool(here.turns[0]["heard"]) is shared
            assert bool(here.states[-1].said) is shared

    run(main("diary", shared=False))
    run(main("friend", shared=True))


def test_every_state_of_a_turn_is_told_but_none_twice(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, HELP) as here:
            await speaks(here.rehearsal)
            await asyncio.sleep(30)
            told = [state.state for state in here.states]
            assert told[0] == told[-1] == "idle"
            assert {"listening", "speaking"} <= set(told)
            clocks = {"at", "idle_s"}
            bare = [state.model_dump_json(exclude=clocks) for state in here.states]
            assert all(one != other for one, other in itertools.pairwise(bare))

    run(main())


def test_what_could_not_be_told_once_is_told_the_next_time(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            quiet = here.rehearsal.room.parts.quiet
            now, quiet.now = quiet.now, lambda: 1 / 0  # type: ignore[assignment, method-assign]
            here.rehearsal.room.conversation.post(MuteSet(True))
            await rests()
            quiet.now = now  # type: ignore[method-assign]
            here.rehearsal.room.conversation.post(MuteSet(False))
            here.rehearsal.room.conversation.post(MuteSet(True))
            await rests()
            assert here.states[-1].muted

    run(main())


def test_an_idle_room_sends_nothing(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            await asyncio.sleep(60)
            before = len(here.wire.sent)
            await asyncio.sleep(900)
            assert len(here.wire.sent) == before

    run(main())


def test_many_changes_at_once_are_told_a_few_times(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            before = len(here.states)
            for number in range(30):
                await here.tells(Volume(volume=number / 30))
                await asyncio.sleep(1 / 30)
            await rests()
            assert len(here.states) - before <= 6
            assert here.states[-1].volume == pytest.approx(29 / 30, abs=0.001)

    run(main())


def test_a_knob_that_nobody_tells_of_is_seen(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            here.rehearsal.room.parts.mouth.loudspeaker.set_volume(0.9)
            await asyncio.sleep(6)
            assert here.states[-1].volume == 0.9

    run(main())


def test_all_is_told_again_to_a_broker_that_was_away(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            link = here.kitchen.link
            assert isinstance(link, WireLink)
            link.cut()
            here.wire.retained.clear()
            await here.rehearsal.room.parts.quiet.keep_for(600)
            await asyncio.sleep(20)
            link.mend()
            await rests()
            assert read(State, here.wire.retained[TOPICS.device("kitchen-1", "state")]).quiet

    run(main())


def test_a_last_will_that_came_late_is_put_right(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            gone = here.kitchen.identity.presence().model_copy(update={"online": False, "instance": "earlier"})
            here.wire.publish(TOPICS.device("kitchen-1", "presence"), write(gone), retain=True)
            await rests()
            assert read(Presence, here.wire.retained[TOPICS.device("kitchen-1", "presence")]).online

    run(main())


def test_two_devices_of_one_id_are_told_of_until_one_has_gone(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            twin = here.kitchen.identity.presence().model_copy(update={"instance": "other", "room": "attic"})
            here.wire.publish(TOPICS.device("kitchen-1", "presence"), write(twin), retain=True)
            await rests()
            health = here.rehearsal.room.health()["house"]
            assert "attic" in health
            assert "device.id" in health
            gone = write(twin.model_copy(update={"online": False}))
            here.wire.publish(TOPICS.device("kitchen-1", "presence"), gone, retain=True)
            await rests()
            assert here.rehearsal.room.health()["house"] == "ok"

    run(main())


def test_a_twin_that_came_while_this_device_was_shut_out_is_seen_by_what_it_left(
    run: Run[None], tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            link = here.kitchen.link
            assert isinstance(link, WireLink)
            link.cut()
            twin = here.kitchen.identity.presence().model_copy(update={"instance": "other"})
            here.wire.retained[TOPICS.device("kitchen-1", "presence")] = write(twin)
            link.mend()
            await rests()
            assert "device.id" in here.rehearsal.room.health()["house"]
            await asyncio.sleep(700)
            assert here.rehearsal.room.health()["house"] == "ok"

    run(main())


def test_what_an_earlier_run_left_is_no_twin(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        wire = Wire()
        earlier = Presence(id="kitchen-1", online=True, instance="earlier", room="kitchen")
        wire.retained[TOPICS.device("kitchen-1", "presence")] = write(earlier)
        async with house(tmp_path, wire=wire) as here:
            assert here.rehearsal.room.health()["house"] == "ok"

    run(main())


def test_a_hub_that_is_off_is_told_of_and_a_house_that_has_none_is_whole(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            health = here.rehearsal.room.health
            assert health()["house"] == "ok"
            here.hub.cut()
            await rests()
            assert "roomtone-hub" in health()["house"]
            here.wire.publish(TOPICS.hub(), b"", retain=True)
            await rests()
            assert health()["house"] == "ok"

    run(main())


# ------------------------------------------------------------------------------------------ commands


def test_a_text_is_said(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            assert (await here.tells(Say(text="Dinner is ready."))).ok
            [turn] = await here.rehearsal.at_rest()
            assert (turn.spoken, turn.source) == ("Dinner is ready.", "hub")

    run(main())


def test_a_text_waits_for_quiet_hours_unless_it_is_urgent(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            assert (await here.tells(Quieten(minutes=30))).ok
            await rests()
            assert here.states[-1].quiet
            waits = await here.tells(Say(text="The post is here."))
            assert (waits.ok, waits.code) == (True, "DEVICE_QUIET")
            assert (await here.tells(Say(text="Fire!", urgent=True))).code == ""
            assert [turn.spoken for turn in await here.rehearsal.at_rest()] == ["Fire!"]
            await here.tells(Quieten(minutes=0))
            await rests()
            assert [turn.spoken for turn in await here.rehearsal.at_rest()] == ["The post is here."]

    run(main())


def test_a_question_is_answered_as_if_it_had_been_heard(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            assert (await here.tells(Ask(text=HELP))).ok
            [turn] = await here.rehearsal.at_rest()
            assert (turn.heard, turn.source) == (HELP, "hub")
            assert turn.spoken

    run(main())


def test_the_house_chooses_who_speaks_among_those_who_can(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            other = next(name for name in here.kitchen.identity.personas if name != "companion")
            assert (await here.tells(UsePersona(persona=other))).ok
            await rests()
            assert here.states[-1].persona == other
            refused = await here.tells(UsePersona(persona="nobody"))
            assert (refused.ok, refused.code) == (False, "PERSONA_NOT_FOUND")
            assert other in refused.message

    run(main())


def test_the_microphone_is_switched_off_and_on(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            assert (await here.tells(Mute(muted=True))).ok
            await rests()
            assert (here.states[-1].muted, here.states[-1].listens) == (True, False)
            assert (await here.tells(Listen())).code == "DEVICE_MUTED"
            assert (await here.tells(Mute(muted=False))).ok
            await rests()
            assert not here.states[-1].muted

    run(main())


def test_what_the_switch_on_the_device_has_off_stays_off(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            here.rehearsal.room.conversation.post(MuteSet(True, Muter.SWITCH))
            await rests()
            assert (await here.tells(Mute(muted=False))).code == "DEVICE_MUTED"
            await rests()
            assert here.states[-1].muted

    run(main())


def test_the_room_listens_and_is_silent_at_a_word_from_the_house(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            assert (await here.tells(Listen())).ok
            await rests()
            assert here.states[-1].state == "listening"
            assert (await here.tells(Stop())).ok
            await rests()
            assert here.states[-1].state == "idle"

    run(main())


def test_timers_come_and_go(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            assert (await here.tells(SetTimers(save=(timer(),)))).ok
            await rests()
            assert [each.name for each in here.states[-1].timers] == ["pasta"]
            assert (await here.tells(SetTimers(cancel=("t1", "unknown")))).ok
            await rests()
            assert not here.states[-1].timers

    run(main())


def test_what_a_reminder_says_leaves_the_room_only_where_texts_are_shared(run: Run[None], tmp_path: Path) -> None:
    async def told(folder: Path, *, shared: bool) -> list[tuple[str, str]]:
        async with house(folder, hub={"share_texts": shared}) as here:
            text = {"id": "t2", "name": "call the doctor", "kind": TimerKind.REMINDER}
            await here.rehearsal.room.parts.timers.save([timer(person="Anna"), timer(person="Anna", **text)])
            here.kitchen.room.feed.publish("timers.changed", source="a test")
            await rests()
            return [(each.name, each.person) for each in here.states[-1].timers]

    async def main() -> None:
        assert await told(tmp_path / "private", shared=False) == [("pasta", ""), ("", "")]
        assert await told(tmp_path / "shared", shared=True) == [("pasta", "Anna"), ("call the doctor", "Anna")]

    run(main())


def test_a_countdown_goes_on_whatever_the_clock_of_who_sent_it(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            apart = timedelta(hours=7)
            alarm = timer(id="a", name="up", seconds=0, due=utc_now() + timedelta(hours=1))
            sent = SetTimers(
                save=(timer(due=utc_now() + apart + timedelta(minutes=9), set_at=utc_now() + apart), alarm),
                at=utc_now() + apart,
            )
            assert (await here.tells(sent)).ok
            running = await here.rehearsal.room.parts.timers.running()
            left = [round((each.due - utc_now()).total_seconds() / 60) for each in running]
            assert left == [9, 60]

    run(main())


# ----------------------------------------------------------------------------------------- bad input


def test_a_command_that_comes_again_is_done_once_and_answered_as_before(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            said = Say(text="Only once.")
            first, again = await here.tells(said), await here.tells(said)
            assert first == again
            assert len(await here.rehearsal.at_rest()) == 1

    run(main())


def test_a_command_that_the_broker_kept_is_not_obeyed(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            here.wire.retained[COMMAND] = write(Say(text="Every morning."))
            link = here.kitchen.link
            assert isinstance(link, WireLink)
            link.cut()
            link.mend()
            assert not await here.rehearsal.at_rest()

    run(main())


@pytest.mark.parametrize(
    ("payload", "code", "named"),
    [
        (b"", "PAYLOAD_ERROR", "payload"),
        (b"\xff\x00 nothing", "PAYLOAD_ERROR", "payload"),
        (b"[]", "PAYLOAD_ERROR", "payload"),
        (b'{"id": "x", "do": "say", "text": 5}', "PAYLOAD_ERROR", "text"),
        (b'{"id": "x", "do": "volume", "volume": 11}', "PAYLOAD_ERROR", "volume"),
        (b'{"id": "x", "text": "hello"}', "PAYLOAD_ERROR", "do"),
        (b'{"id": "x", "do": "explode"}', "UNKNOWN_COMMAND", "explode"),
        (b'{"id": "x", "do": "explode", "v": 9}', "NEWER_VERSION", "version 9"),
        (b'{"id": "x", "do": "say", "text": "hello", "v": 9}', "NEWER_VERSION", "version 9"),
        (b'{"id": "x", "do": "say", "text": "%s"}' % (b"a" * LONGEST), "PAYLOAD_ERROR", "too long"),
        (b'{"id": "x", "do": "say", "text": "  "}', "USAGE_ERROR", "no text"),
    ],
)
def test_what_is_no_command_is_refused_with_a_code_and_a_sentence(
    run: Run[None], tmp_path: Path, payload: bytes, code: str, named: str
) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            reply = await here.tells(payload)
            assert (reply.ok, reply.code) == (False, code)
            assert named in reply.message
            assert reply.of == ("x" if b'"x"' in payload and len(payload) < LONGEST else "")
            assert not await here.rehearsal.at_rest()
            assert (await here.tells(Volume(volume=0.3))).ok

    run(main())


def test_a_flood_is_refused_and_not_answered_by_another(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path) as here:
            for _ in range(500):
                here.wire.publish(COMMAND, write(Stop()), to=REPLY)
            await rests()
            replies = [read(Reply, payload) for payload in here.wire.payloads("kitchen-1/reply")]
            assert AT_ONCE <= sum(reply.ok for reply in replies) <= AT_ONCE + 25
            assert {reply.code for reply in replies if not reply.ok} == {"TOO_MANY_COMMANDS"}
            assert len(replies) < 100
            await asyncio.sleep(5)
            assert (await here.tells(Volume(volume=0.3))).ok

    run(main())


def test_a_failure_inside_is_answered_too(run: Run[None], tmp_path: Path) -> None:
    class Broken:
        released = ()

        def standing(self) -> tuple[str | None, int]:
            return None, 0

        async def release(self, order: object) -> Reply:
            raise ZeroDivisionError

        offer = adopt = release

    async def main() -> None:
        async with house(tmp_path) as here:
            order = Release(handoff="h", session="s", epoch=0, target="attic", target_room="attic")
            here.kitchen.edge.mover = Unmoved()
            assert (await here.tells(order)).code == "UNKNOWN_COMMAND"
            here.kitchen.edge.mover = Broken()
            assert (await here.tells(order)).code == "INTERNAL_ERROR"
            assert (await here.tells(Volume(volume=0.3))).ok

    run(main())


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8)).map(
        lambda made: json.dumps(made).encode()
    )
)
def test_whatever_comes_is_a_command_or_a_refusal(payload: bytes) -> None:
    try:
        parsed = parse(payload)
    except PayloadError as error:
        told = error.message
    else:
        told = parsed.id
    assert told
    assert "\n" not in told
