"""Rooms of one house that hear the same voice: one answers, the others make no sound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker import Broker, broker
from conftest import Run
from house_wire import Wire, WireLink
from rooms import HELP, room, scripted, somebody_speaks, until
from roomtone.clock import run_skipping
from roomtone.core.arbitration import Kind
from roomtone.core.dialog import Ended, Source
from roomtone.core.effects import Called
from roomtone.core.machine import Mode
from roomtone.core.signals import Call, MuteSet, StandDown, Wake
from roomtone.core.sound import HOP, RATE, Audio
from roomtone.core.wire import Claim, Presence, Topics, write
from roomtone.edges.claims import GRACE_S, Claims
from roomtone.engines.wake.microwakeword import shipped_models
from roomtone.flow import Event, Feed, beside, task_group
from roomtone.joining import Joined, joined
from roomtone.link import Link
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Hub
from speech import said

__all__ = ["broker"]

TIME = "what time is it"
TOPICS = Topics("home")

with_words = pytest.mark.skipif(not shipped_models(), reason="pip install 'roomtone[wake]'")


@dataclass
class House:
    """Rooms by name, each of which has joined the house, and what each feed told of calls."""

    wire: Wire
    rooms: dict[str, Rehearsal] = field(default_factory=dict)
    places: dict[str, Joined] = field(default_factory=dict)
    told: dict[str, list[Event]] = field(default_factory=dict)

    def link(self, name: str) -> WireLink:
        link = self.places[name].link
        assert isinstance(link, WireLink)
        return link

    def hears(self, name: str, ago_s: float = 0.1, persona: str | None = None) -> None:
        """Let a room hear its wake word, which was over so many seconds ago."""
        call = Call(asyncio.get_running_loop().time() - ago_s, "okay nabu", 0.9)
        self.rooms[name].room.conversation.post(Wake(Source.VOICE, persona, call=call))

    def speaks(self, sound: Audio, *names: str) -> None:
        """Let somebody speak where these rooms hear it."""
        for name in names or self.rooms:
            self.rooms[name].device.visit(sound)

    def mode(self, name: str) -> Mode:
        return self.rooms[name].room.conversation.state.mode

    async def answered(self) -> dict[str, int]:
        """Wait until all has come to rest; return how many new turns each room has had."""
        return {name: len(await room.at_rest()) for name, room in self.rooms.items()}

    def kinds(self, name: str) -> list[str]:
        """Return what became of the calls that a room heard, in order."""
        return [event.kind for event in self.told[name]]

    def sounded_at(self, name: str) -> float | None:
        """Return when a room's loudspeaker was first heard; None where it never was."""
        device = self.rooms[name].device
        loud = np.flatnonzero(np.abs(device.played.samples) > 8)
        return device.time_of(0) + int(loud[0]) / RATE if len(loud) else None


def furnished(name: str, *heard: str, **sections: Any) -> Any:
    device = {"id": f"{name}-1", "name": name, "room": name}
    listen = {"mode": "button", "follow_up_s": 0, **sections.pop("listen", {})}
    hub = {"url": "mqtts://hub.local", **sections.pop("hub", {})}
    return scripted(*heard, device=device, hub=hub, listen=listen, **sections)


@asynccontextmanager
async def house(tmp_path: Path, **settings: Any) -> AsyncIterator[House]:
    """Open rooms, by their settings, that have joined one house."""
    made = House(Wire())
    async with AsyncExitStack() as stack:
        for name, given_settings in settings.items():
            folder = tmp_path / name
            folder.mkdir()
            rehearsal = await stack.enter_async_context(room(given_settings, folder))
            place = await stack.enter_async_context(joined(rehearsal.room, link_of=made.wire.link_of))
            made.rooms[name], made.places[name] = rehearsal, place
            made.told[name] = told = []
            watching = rehearsal.room.feed.attend("test", "wake.[!h]*", _noting(told))
            await stack.enter_async_context(beside(watching, name))
        await asyncio.sleep(1)
        yield made


def _noting(told: list[Event]) -> Callable[[Event], Any]:
    async def note(event: Event) -> None:
        told.append(event)

    return note


def three(*heard: str, **sections: Any) -> dict[str, Any]:
    return {name: furnished(name, *heard, **sections) for name in ("kitchen", "hall", "bedroom")}


# ---------------------------------------------------------------------------------- one voice, one answer


def test_of_three_rooms_that_hear_a_word_one_answers_and_the_others_leave_no_trace(
    run: Run[None], tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(TIME)) as ours:
            ours.hears("hall")
            ours.hears("kitchen", ago_s=0.15)
            ours.speaks(await somebody_speaks())
            await asyncio.sleep(0.1)
            ours.hears("bedroom", ago_s=0.25)
            assert await ours.answered() == {"kitchen": 0, "hall": 1, "bedroom": 0}
            assert ours.kinds("hall") == ["wake.claimed", "wake.won"]
            assert ours.kinds("kitchen") == ["wake.claimed", "wake.lost"]
            assert ours.kinds("bedroom") == ["wake.lost"], "who hears it late does not even claim"
            assert [event.data.to for event in ours.told["kitchen"][1:]] == ["hall-1"]
            for name in ("kitchen", "bedroom"):
                assert ours.sounded_at(name) is None
                assert ours.mode(name) is Mode.IDLE
                assert await ours.rooms[name].room.store.history() == []

    run(main())


@with_words
def test_a_word_that_is_really_said_is_answered_once(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        rooms = three(TIME, TIME, listen={"mode": "wake_word"})
        async with house(tmp_path, **rooms) as ours:
            word = await said(f"okay nabu {TIME}", "en-us")
            for name, echo_s in (("bedroom", 0.04), ("kitchen", 0.0), ("hall", 0.02)):
                ours.rooms[name].device.visit(Audio(np.pad(word.samples, (round(echo_s * RATE), 0))))
            assert sorted((await ours.answered()).values()) == [0, 0, 1]
            # One that won may lose again to a room that heard it clearly louder: what came last is what it is.
            last = [told[-1] for told in ours.told.values()]
            assert sorted(event.kind for event in last) == ["wake.lost", "wake.lost", "wake.won"]
            [won] = [event for event in last if event.kind == "wake.won"]
            assert 0 < won.data.ms < 700

    run(main())


@with_words
def test_the_room_in_which_they_stand_answers_though_another_noticed_them_sooner(
    run: Run[None], tmp_path: Path
) -> None:
    async def main() -> None:
        rooms = three(TIME, TIME, listen={"mode": "wake_word"})
        async with house(tmp_path, **rooms) as ours:
            word = await said(f"okay nabu {TIME}", "en-us")
            for name, late_s, loud in (("bedroom", 0.0, 0.2), ("kitchen", 0.25, 1.0), ("hall", 0.2, 0.3)):
                heard = np.pad((word.samples * loud).astype(np.int16), (round(late_s * RATE), 0))
                ours.rooms[name].device.visit(Audio(heard))
            assert await ours.answered() == {"kitchen": 1, "hall": 0, "bedroom": 0}
            assert ours.kinds("bedroom")[0] == "wake.claimed", "it was first, and stood down all the same"
            assert ours.sounded_at("bedroom") is ours.sounded_at("hall") is None

    run(main())


def test_the_winner_chimes_when_it_would_have_alone(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        chimed: list[float] = []
        for network, (up, down) in {"none": (0.0, 0.0), "wlan": (0.03, 0.05)}.items():
            folder = tmp_path / network
            folder.mkdir()
            async with house(folder, **three()) as ours:
                for name in ours.rooms:
                    ours.link(name).up_s, ours.link(name).down_s = up, down
                    if network == "none":
                        ours.link(name).cut()
                called = asyncio.get_running_loop().time()
                ours.hears("kitchen")
                await asyncio.sleep(2)
                at = ours.sounded_at("kitchen")
                assert at is not None
                chimed.append(at - called)
        alone, together = chimed
        assert together == pytest.approx(alone, abs=HOP / RATE)

    run(main())


def test_without_a_broker_each_room_answers_at_once(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(TIME)) as ours:
            for name in ours.rooms:
                ours.link(name).cut()
                ours.hears(name)
            ours.speaks(await somebody_speaks())
            assert await ours.answered() == {"kitchen": 1, "hall": 1, "bedroom": 1}
            assert ours.kinds("hall") == ["wake.claimed", "wake.won"]

    run(main())


def test_no_slow_broker_costs_a_chime_and_who_lost_after_all_stands_down_silently_from_then_on(
    run: Run[None], tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(TIME, stt={"delay_s": 3.0})) as ours:
            for name in ours.rooms:
                ours.link(name).down_s = 0.6
            began = asyncio.get_running_loop().time()
            ours.hears("kitchen")
            ours.hears("hall")
            await asyncio.sleep(0.55)
            at = ours.sounded_at("hall")
            assert at is not None
            assert at - began <= 0.35 + GRACE_S + 0.02
            assert ours.mode("hall") is Mode.LISTENING
            await asyncio.sleep(0.2)
            assert (ours.mode("kitchen"), ours.mode("hall")) == (Mode.LISTENING, Mode.IDLE)

    run(main())


def test_who_learns_a_little_late_that_it_lost_does_not_chime_either(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, **three()) as ours:
            ours.link("hall").down_s = 0.42
            ours.hears("kitchen")
            ours.hears("hall")
            await asyncio.sleep(2)
            assert ours.sounded_at("kitchen") is not None
            assert ours.sounded_at("hall") is None

    run(main())


def test_a_room_that_has_begun_to_think_drops_it(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(TIME, stt={"delay_s": 1.0})) as ours:
            ours.link("hall").up_s = 0.95
            ours.hears("hall")
            ours.speaks((await somebody_speaks()).cut(0, RATE // 5), "hall")
            await asyncio.sleep(0.9)
            assert ours.mode("hall") is Mode.THINKING
            ours.hears("kitchen", ago_s=1.0)
            assert (await ours.answered())["hall"] == 0
            assert ours.kinds("hall") == ["wake.claimed", "wake.lost"]
            assert await ours.rooms["hall"].room.store.history() == []

    run(main())


def test_nobody_stands_down_for_what_was_called_at_another_time(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(TIME)) as ours:
            ours.hears("kitchen")
            await asyncio.sleep(1)
            ours.hears("hall")
            ours.speaks(await somebody_speaks(), "kitchen", "hall")
            assert await ours.answered() == {"kitchen": 1, "hall": 1, "bedroom": 0}

    run(main())


def test_buttons_are_pressed_in_the_room_that_is_meant(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(TIME)) as ours:
            for name in ("kitchen", "hall"):
                ours.rooms[name].room.conversation.post(Wake(Source.BUTTON))
            ours.speaks(await somebody_speaks(), "kitchen", "hall")
            assert await ours.answered() == {"kitchen": 1, "hall": 1, "bedroom": 0}
            assert not any(ours.told.values())

    run(main())


def test_a_persona_that_was_called_comes_only_where_the_call_is_answered(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, **three("who are you")) as ours:
            ours.hears("kitchen", persona="chef")
            ours.hears("hall", persona="chef")
            ours.speaks(await somebody_speaks(), "kitchen", "hall")
            await ours.answered()
            speakers = {name: each.room.conversation.speaker.persona.id for name, each in ours.rooms.items()}
            assert speakers == {"kitchen": "chef", "hall": "companion", "bedroom": "companion"}

    run(main())


# -------------------------------------------------------------------------------------------- interruptions


async def is_answering(ours: House, *names: str) -> None:
    """Let rooms be in the middle of a long answer."""
    for name in names:
        ours.rooms[name].room.conversation.post(Wake(Source.BUTTON))
    ours.speaks(await somebody_speaks(), *names)
    for name in names:
        await until(ours.rooms[name], "turn.first_sound")
    await asyncio.sleep(1.5)


def test_the_room_that_is_interrupted_keeps_whoever_called_though_another_claimed_first(
    run: Run[None], tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(HELP, TIME)) as ours:
            await is_answering(ours, "kitchen")
            ours.hears("hall")
            await asyncio.sleep(0.05)
            assert ours.kinds("hall") == ["wake.claimed", "wake.won"]
            ours.hears("kitchen", ago_s=0.2)
            await asyncio.sleep(0.05)
            assert ours.kinds("hall")[2:] == ["wake.lost"]
            assert (ours.mode("kitchen"), ours.mode("hall")) == (Mode.LISTENING, Mode.IDLE)
            ours.speaks(await somebody_speaks(), "kitchen", "hall")
            assert await ours.answered() == {"kitchen": 2, "hall": 0, "bedroom": 0}
            assert ours.sounded_at("hall") is None
            assert [turn.ended for turn in ours.rooms["kitchen"].turns] == [Ended.INTERRUPTED, Ended.COMPLETED]

    run(main())


def test_of_two_rooms_that_are_interrupted_the_first_listens_and_the_other_stays_silent(
    run: Run[None], tmp_path: Path
) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(HELP, TIME)) as ours:
            await is_answering(ours, "kitchen", "hall")
            ours.hears("hall")
            ours.hears("kitchen")
            await asyncio.sleep(0.2)
            before = len(ours.rooms["kitchen"].device.played)
            ours.speaks(await somebody_speaks(), "kitchen", "hall")
            assert await ours.answered() == {"kitchen": 1, "hall": 2, "bedroom": 0}
            assert not np.any(np.abs(ours.rooms["kitchen"].device.played.samples[before:]) > 8)
            assert ours.rooms["kitchen"].turns[0].ended is Ended.INTERRUPTED

    run(main())


# ---------------------------------------------------------------------------------------- open rooms


def openly(*heard: str, **sections: Any) -> dict[str, Any]:
    return three(*heard, listen={"mode": "open", "follow_up_s": 6}, **sections)


@pytest.mark.parametrize("seconds", [1.0, 6.0])
def test_where_no_word_is_needed_one_room_answers_however_long_somebody_speaks(
    run: Run[None], tmp_path: Path, seconds: float
) -> None:
    async def main() -> None:
        async with house(tmp_path, **openly(TIME, TIME, TIME)) as ours:
            long = await somebody_speaks("some words that go on and on about this and that " * 3)
            ours.speaks(long.cut(0, round(seconds * RATE)))
            answered = await ours.answered()
            assert sorted(answered.values()) == [0, 0, 1]
            assert sum(ours.sounded_at(name) is not None for name in ours.rooms) == 1

    run(main())


def test_a_conversation_stays_in_its_room_until_it_is_over(run: Run[None], tmp_path: Path) -> None:
    """Follow-ups, and what is said into an answer, are heard by the other rooms as well."""

    async def main() -> None:
        async with house(tmp_path, **openly(HELP, TIME, TIME)) as ours:
            words = await somebody_speaks()
            ours.rooms["kitchen"].device.visit(words)
            await asyncio.sleep(0.2)
            ours.speaks(words, "hall", "bedroom")
            await until(ours.rooms["kitchen"], "turn.first_sound")
            await asyncio.sleep(2)
            ours.speaks(words)
            answered = await ours.answered()
            assert (answered["hall"], answered["bedroom"]) == (0, 0)
            assert answered["kitchen"] == 2
            ours.speaks(words)
            assert sum((await ours.answered()).values()) == 1

    run(main())


@pytest.mark.parametrize(("follow_s", "asks"), [(0, []), (30, ["kitchen-1"])])
def test_only_the_room_that_answers_asks_for_what_was_talked_of_elsewhere(
    run: Run[None], tmp_path: Path, follow_s: int, asks: list[str]
) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(hub={"follow_s": follow_s})) as ours:
            ours.wire.publish(TOPICS.hub(), write(Presence(id="hub", online=True)), retain=True)
            await asyncio.sleep(1)
            ours.hears("kitchen")
            ours.hears("hall")
            await asyncio.sleep(1)
            asked = [TOPICS.device_of(topic) for topic, payload in ours.wire.sent if b'"ask":"follow"' in payload]
            assert asked == asks

    run(main())


# ------------------------------------------------------------------------------- who is not fit to answer


def test_a_room_that_cannot_serve_leaves_it_to_the_others_if_there_are_any(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(TIME)) as ours:
            stt = ours.rooms["hall"].room.parts.stt
            for place in stt.places:
                place.rests_until = float("inf")
            ours.hears("hall")
            ours.speaks(await somebody_speaks(), "hall")
            assert (await ours.answered())["hall"] == 0
            assert ours.kinds("hall") == ["wake.lost"]
            assert ours.wire.payloads("/wake") == []
            ours.link("kitchen").cut()
            ours.link("bedroom").cut()
            await asyncio.sleep(1)
            ours.hears("hall")
            await asyncio.sleep(1)
            assert ours.mode("hall") is Mode.LISTENING

    run(main())


def test_a_muted_room_claims_nothing(run: Run[None], tmp_path: Path) -> None:
    async def main() -> None:
        async with house(tmp_path, **three(TIME)) as ours:
            ours.rooms["hall"].room.conversation.post(MuteSet(True))
            ours.hears("hall")
            await asyncio.sleep(1)
            assert ours.wire.payloads("/wake") == []

    run(main())


# ------------------------------------------------------------------------------------------ bad claims


@dataclass
class Ear:
    """A room's claims alone, over a wire: what it hears, and what it is told to stand down from."""

    wire: Wire
    link: WireLink
    claims: Claims
    feed: Feed
    lost: list[StandDown]

    async def hears(self, number: int, kind: Kind = Kind.WAKE, ago_s: float = 0.0) -> None:
        call = Call(asyncio.get_running_loop().time() - ago_s)
        self.feed.publish("wake.heard", Called(number, kind, call), source="test")
        await asyncio.sleep(0.001)


@asynccontextmanager
async def ear(wire: Wire, device: str = "hall-1", **rest: Any) -> AsyncIterator[Ear]:
    feed, lost = Feed(), list[StandDown]()
    link = wire.link_of(Hub(), device, lambda: Presence(id=device, online=True), TOPICS.device(device, "presence"))
    claims = Claims(link, device, device, feed, lost.append, **rest)
    async with beside(link.run(), "link"), beside(claims.run(), "claims"):
        await asyncio.sleep(0.1)
        yield Ear(wire, link, claims, feed, lost)


OURS = Claim(id="hall-1", room="hall")
THEIRS = Claim(id="kitchen-1", room="kitchen")


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        (TOPICS.device("kitchen-1", "wake"), b"\xff not json"),
        (TOPICS.device("kitchen-1", "wake"), b""),
        (TOPICS.device("kitchen-1", "wake"), write(THEIRS) + b" " * 2000),
        (TOPICS.device("kitchen-1", "wake"), write(THEIRS).replace(b'"v":1', b'"v":9')),
        (TOPICS.device("kitchen-1", "wake"), write(THEIRS).replace(b'"wake"', b'"whistle"')),
        (TOPICS.device("kitchen-1", "wake"), write(THEIRS.model_copy(update={"age_ms": 5000.0}))),
        (TOPICS.device("kitchen-1", "wake"), write(OURS)),
        (TOPICS.device("hall-2", "wake"), write(THEIRS)),
        (Topics("next-door").device("kitchen-1", "wake"), write(THEIRS)),
    ],
)
def test_a_claim_that_is_none_silences_nobody(run: Run[None], topic: str, payload: bytes) -> None:
    async def main() -> None:
        async with ear(Wire()) as hall:
            hall.wire.publish(topic, payload)
            await hall.hears(1)
            hall.wire.publish(topic, payload)
            await asyncio.sleep(0.1)
            assert hall.lost == []
            assert await hall.claims.answers(1)

    run(main())


@given(st.binary(max_size=200) | st.builds(lambda x: write(THEIRS).replace(b"kitchen-1", x), st.binary(max_size=9)))
def test_nothing_that_comes_silences_a_room_but_a_claim(payload: bytes) -> None:
    async def main() -> None:
        async with ear(Wire()) as hall:
            await hall.hears(1)
            hall.wire.publish(TOPICS.device("bath-1", "wake"), payload)
            await asyncio.sleep(0.1)
            assert hall.lost == []
            hall.wire.publish(TOPICS.device("kitchen-1", "wake"), write(THEIRS))
            await hall.hears(2)
            assert hall.lost == [StandDown(2)]

    run_skipping(main(), counts_work=False)


def test_a_claim_that_the_broker_had_kept_is_not_of_now(run: Run[None]) -> None:
    async def main() -> None:
        wire = Wire()
        wire.retained[TOPICS.device("kitchen-1", "wake")] = write(THEIRS)
        async with ear(wire) as hall:
            await hall.hears(1)
            assert await hall.claims.answers(1)

    run(main())


def test_nobody_is_silenced_for_what_was_called_seconds_ago(run: Run[None]) -> None:
    async def main() -> None:
        async with ear(Wire()) as hall:
            hall.link.up_s = 0.5
            await hall.hears(1, ago_s=4.0)
            hall.wire.publish(TOPICS.device("kitchen-1", "wake"), write(THEIRS.model_copy(update={"age_ms": 4000.0})))
            await asyncio.sleep(0.1)
            assert hall.lost == []

    run(main())


def test_another_device_of_the_same_id_is_another_device(run: Run[None]) -> None:
    async def main() -> None:
        wire = Wire()
        async with ear(wire) as one, ear(wire) as other:
            await one.hears(1)
            await other.hears(1)
            assert (await one.claims.answers(1), await other.claims.answers(1)) == (True, False)

    run(main())


def test_a_claim_that_never_comes_back_is_waited_for_no_longer_than_the_chime_can_bear(run: Run[None]) -> None:
    async def main() -> None:
        async with ear(Wire()) as hall:
            hall.link.down_s = 60
            await hall.hears(1)
            began = asyncio.get_running_loop().time()
            assert await hall.claims.answers(1)
            assert asyncio.get_running_loop().time() - began == pytest.approx(GRACE_S)
            hall.link.cut()
            assert await hall.claims.answers(1)
            assert asyncio.get_running_loop().time() - began == pytest.approx(GRACE_S)

    run(main())


def test_who_talks_to_a_room_already_is_left_to_it_and_it_stands_down_for_nobody(run: Run[None]) -> None:
    async def main() -> None:
        wire = Wire()
        async with ear(wire, "kitchen-1") as kitchen, ear(wire) as hall:
            await kitchen.hears(1, Kind.ENGAGED)
            await hall.hears(1, Kind.SPEECH)
            await kitchen.hears(2, Kind.ENGAGED)
            await hall.hears(2, Kind.INTERRUPTION)
            assert (kitchen.lost, hall.lost) == ([], [StandDown(1)])

    run(main())


# ---------------------------------------------------------------------------------------- a real broker


AGES_S = (2.8, 1.9, 1.0, 0.1)
"""Four calls that were made some time apart, so that nobody has to wait between them."""


def test_over_a_real_broker_exactly_one_of_three_rooms_answers_each_call(
    run_in_real_time: Run[None], broker: Broker
) -> None:
    async def main() -> None:
        up: dict[str, asyncio.Event] = {f"room-{n}": asyncio.Event() for n in range(3)}
        async with AsyncExitStack() as stack:
            feeds = [await stack.enter_async_context(linked(broker, *each)) for each in up.items()]
            async with asyncio.timeout(30):
                for each in up.values():
                    await each.wait()
                for number, ago_s in enumerate(AGES_S, 1):
                    async with task_group() as group:
                        decided = [
                            group.create_task(outcome(feed, number, ago_s + n / 20)) for n, feed in enumerate(feeds)
                        ]
                    assert sorted(task.result() for task in decided) == ["wake.lost", "wake.lost", "wake.won"]

    run_in_real_time(main())


@asynccontextmanager
async def linked(broker: Broker, device: str, up: asyncio.Event) -> AsyncIterator[Feed]:
    """Give the feed of a room that claims what it tells of, over the broker."""
    settings, feed = broker.hub(device), Feed()
    topics = Topics(settings.home)
    link = Link(
        settings,
        device,
        lambda: Presence(id=device, online=True),
        topics.device(device, "presence"),
        on_change=lambda there: up.set() if there else None,
    )
    claims = Claims(link, device, device, feed, lambda _: None)
    async with beside(link.run(), "link"), beside(claims.run(), "claims"):
        yield feed


async def outcome(feed: Feed, number: int, ago_s: float) -> str:
    """Let a room hear a call, and return what became of it."""
    call = Call(asyncio.get_running_loop().time() - ago_s)
    with feed.watch("wake.[wl]o*") as events:
        feed.publish("wake.heard", Called(number, Kind.WAKE, call), source="test")
        return await anext(each.kind async for each in events if each.data.call == number)
