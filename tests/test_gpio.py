"""Hands at a board, through the whole room: presses on mock pins, and what is said and shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from gpiozero.pins.mock import MockFactory, MockPWMPin
from pydantic import ValidationError

from conftest import Run
from home import BERLIN
from panel import Panel, panel
from rooms import HELP, room, scripted, somebody_speaks, speaks, until
from roomtone import boards
from roomtone.clock import SkippingLoop, utc_now
from roomtone.core.board import Board, Use, bind
from roomtone.core.dialog import Ended, Source, Timer
from roomtone.core.errors import ConfigError, EngineUnavailable, PersonaError
from roomtone.core.machine import Mode
from roomtone.core.persona import Persona, Trigger
from roomtone.core.signals import MuteSet, Prompt
from roomtone.daemon import be_touched
from roomtone.doctor import gpio
from roomtone.edges import pins
from roomtone.edges.gpio import Ways
from roomtone.flow import beside
from roomtone.rehearsal import Rehearsal
from roomtone.settings import Gpio

TIME = "what time is it"


@asynccontextmanager
async def touched(
    tmp_path: Path, *heard: str, board: str = "desk-panel", **sections: Any
) -> AsyncIterator[tuple[Rehearsal, Panel]]:
    """Open a room that listens only when it is called, with a board under its hands."""
    gpio = {"board": board, "brightness": 1.0, **sections.pop("gpio", {})}
    settings = scripted(*heard, listen={"mode": "button", "follow_up_s": 0}, gpio=gpio, **sections)
    async with room(settings, tmp_path) as rehearsal, panel(rehearsal) as hands:
        yield rehearsal, hands


def mode(rehearsal: Rehearsal) -> Mode:
    return rehearsal.room.conversation.state.mode


def spoken(rehearsal: Rehearsal) -> list[str]:
    """Follow what is said aloud, that which is not kept included."""
    said: list[str] = []

    def note(event: Any) -> None:
        if event.kind == "turn.first_sound":
            said.append(event.data.prompt.text if event.data.prompt else event.data.said)

    rehearsal.show = note
    return said


# ------------------------------------------------------------------------------------------ gestures


def test_a_tap_is_listened_to_and_answered(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, TIME) as (rehearsal, hands):
            await hands.tap()
            assert mode(rehearsal) is Mode.LISTENING
            [turn] = await speaks(rehearsal)
            assert (turn.intent, turn.source) == ("clock.time", Source.VOICE)

    run(scenario())


def test_listening_begins_while_the_finger_is_down(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path) as (rehearsal, hands):
            hands.down("button")
            await asyncio.sleep(0.001)
            assert mode(rehearsal) is Mode.LISTENING

    run(scenario())


def test_what_is_said_while_the_button_is_held_is_one_utterance(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, TIME) as (rehearsal, hands):
            hands.down("button")
            for _ in range(2):
                rehearsal.device.visit(await somebody_speaks())
                await asyncio.sleep(6)  # far longer than any pause that ends an utterance
                assert mode(rehearsal) is Mode.LISTENING
            hands.up("button")
            [turn] = await rehearsal.at_rest()
            assert turn.intent == "clock.time"

    run(scenario())


def test_letting_go_ends_the_utterance_at_once(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, TIME) as (rehearsal, hands):
            hands.down("button")
            sound = await somebody_speaks()
            rehearsal.device.visit(sound)
            await asyncio.sleep(sound.seconds + 0.1)
            hands.up("button")
            await asyncio.sleep(0.2)
            assert mode(rehearsal) in (Mode.THINKING, Mode.SPEAKING)
            [turn] = await rehearsal.at_rest()
            assert turn.intent == "clock.time"

    run(scenario())


def test_who_holds_the_button_and_says_nothing_is_soon_left_alone(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path) as (rehearsal, hands):
            await hands.hold("button", 1.0)
            await asyncio.sleep(0.6)
            assert mode(rehearsal) is Mode.IDLE

    run(scenario())


def test_two_taps_say_the_last_answer_again_and_keep_it_once(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, TIME) as (rehearsal, hands):
            await hands.tap()
            [turn] = await speaks(rehearsal)
            said = spoken(rehearsal)
            await hands.tap()
            await asyncio.sleep(0.1)
            await hands.tap()
            assert await rehearsal.at_rest() == []
            assert said == [turn.said]
            assert len(await rehearsal.room.store.history()) == 1

    run(scenario())


def test_two_taps_before_anything_was_said_say_so(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path) as (rehearsal, hands):
            said = spoken(rehearsal)
            await hands.tap()
            await asyncio.sleep(0.1)
            await hands.tap()
            await rehearsal.at_rest()
            assert said == ["I haven't said anything yet."]

    run(scenario())


def test_a_long_press_mutes_and_a_second_one_unmutes_and_both_are_told(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, TIME) as (rehearsal, hands):
            said = spoken(rehearsal)
            await hands.hold("button", 4.0)
            await rehearsal.at_rest()
            assert rehearsal.room.conversation.state.muted
            await hands.tap()
            await rehearsal.at_rest()
            await hands.hold("button", 4.0)
            await rehearsal.at_rest()
            assert not rehearsal.room.conversation.state.muted
            still = "My microphone is still off."
            assert said == ["My microphone is off.", still, still, "My microphone is on."]

    run(scenario())


def test_who_speaks_for_long_while_holding_is_not_muted(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, TIME) as (rehearsal, hands):
            rehearsal.device.visit(await somebody_speaks())
            await hands.hold("button", 5.0)
            assert not rehearsal.room.conversation.state.muted
            [turn] = await rehearsal.at_rest()
            assert turn.intent == "clock.time"

    run(scenario())


def test_a_tap_stops_an_answer_and_listens(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, HELP) as (rehearsal, hands):
            await hands.tap()
            rehearsal.device.visit(await somebody_speaks())
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(1)
            await hands.tap()
            assert mode(rehearsal) is Mode.LISTENING
            [turn] = await rehearsal.at_rest()
            assert turn.ended is Ended.INTERRUPTED

    run(scenario())


@pytest.mark.parametrize("muted", [False, True])
def test_a_tap_stops_what_rings(run: Run[None], tmp_path: Path, muted: bool) -> None:
    async def scenario() -> None:
        async with touched(tmp_path) as (rehearsal, hands):
            rehearsal.room.conversation.post(MuteSet(muted))
            await rehearsal.room.parts.timers.save([Timer(seconds=5, due=utc_now() + timedelta(seconds=5))])
            await until(rehearsal, "turn.first_sound")
            await asyncio.sleep(1)
            await hands.tap()
            [turn] = await rehearsal.at_rest()
            assert turn.ended in (Ended.DISMISSED, Ended.INTERRUPTED)
            assert await rehearsal.room.store.timers() == []

    run(scenario())


# ---------------------------------------------------------------------------- what else buttons are for


def household(folder: Path, **buttons: str) -> Path:
    """Make personas with a button each."""
    for name, button in buttons.items():
        (folder / name).mkdir(parents=True)
        config = f"name: {name.title()}\ntrigger_types: [button]\nbutton: {button}\nvoice: {{pitch: 1.5}}\n"
        (folder / name / "config.yaml").write_text(config)
        (folder / name / "system_prompt.md").write_text(f"You are {name}.")
    return folder


def test_a_persona_s_button_calls_that_persona(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = household(tmp_path / "personas", cook="left", teacher="right")
        async with touched(tmp_path, TIME, TIME, personas={"dir": folder}) as (rehearsal, hands):
            for button, persona in (("left", "cook"), ("right", "teacher")):
                await hands.tap(button)
                [turn] = await speaks(rehearsal)
                assert (turn.persona, turn.intent) == (persona, "clock.time")

    run(scenario())


def test_a_button_that_only_names_a_persona_calls_that_persona(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = household(tmp_path / "personas", cook="right")
        sections: dict[str, Any] = {"gpio": {"buttons": {"left": {"persona": "cook"}}}, "personas": {"dir": folder}}
        async with touched(tmp_path, TIME, **sections) as (rehearsal, hands):
            await rehearsal.room.parts.timers.save([Timer(seconds=5, due=utc_now() + timedelta(seconds=5))])
            await until(rehearsal, "turn.first_sound")
            await hands.tap("left")
            assert mode(rehearsal) is Mode.LISTENING, "and what rings is heard"
            [ring, turn] = await speaks(rehearsal)
            assert (ring.ended, turn.persona, turn.intent) == (Ended.INTERRUPTED, "cook", "clock.time")

    run(scenario())


def test_a_persona_that_is_given_a_button_while_the_room_runs_has_it(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = household(tmp_path / "personas", cook="left")
        async with touched(tmp_path, TIME, personas={"dir": folder}) as (rehearsal, hands):
            household(folder, teacher="right")
            rehearsal.room.feed.publish("persona.changed", None, source="test")
            await asyncio.sleep(0.5)
            await hands.tap("right")
            [turn] = await speaks(rehearsal)
            assert turn.persona == "teacher"

    run(scenario())


def test_of_two_personas_on_one_button_the_second_is_refused_with_the_reason(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = household(tmp_path / "personas", cook="left", teacher="left")
        async with touched(tmp_path, TIME, personas={"dir": folder}) as (rehearsal, hands):
            await hands.tap("left")
            [turn] = await speaks(rehearsal)
            assert turn.persona == "cook"
            with pytest.raises(PersonaError, match=r"button: 'left' calls cook already; give one of them another"):
                await rehearsal.room.parts.cast.ready("teacher")

    run(scenario())


def test_a_button_can_say_something(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        buttons = {"left": {"say": "Dinner is ready."}, "right": {"ask": TIME}}
        async with touched(tmp_path, gpio={"buttons": buttons}) as (rehearsal, hands):
            await hands.tap("left")
            [said] = await rehearsal.at_rest()
            assert (said.said, said.source) == ("Dinner is ready.", Source.BUTTON)
            await hands.tap("right")
            [asked] = await rehearsal.at_rest()
            assert asked.intent == "clock.time"

    run(scenario())


@pytest.mark.parametrize("use", [Use.STOP, Use.MUTE, Use.REPEAT])
def test_a_button_can_have_one_use_only(run: Run[None], tmp_path: Path, use: Use) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, gpio={"buttons": {"left": use.value}}) as (rehearsal, hands):
            rehearsal.room.conversation.post(Prompt("A long story " * 20, Source.CLI, verbatim=True))
            await until(rehearsal, "turn.first_sound")
            said = spoken(rehearsal)
            await hands.hold("left", 1.0)
            turns = await rehearsal.at_rest()
            ends = {Use.STOP: Ended.DISMISSED, Use.MUTE: Ended.COMPLETED, Use.REPEAT: Ended.INTERRUPTED}
            assert turns[0].ended is ends[use]
            assert rehearsal.room.conversation.state.muted is (use is Use.MUTE)
            assert len(said) == (0 if use is Use.STOP else 1)

    run(scenario())


def test_a_button_that_is_pressed_again_and_again_does_not_talk_for_minutes(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, gpio={"buttons": {"left": {"say": "Dinner is ready."}}}) as (rehearsal, hands):
            for _ in range(10):
                await hands.tap("left")
            assert len(await rehearsal.at_rest()) <= 3

    run(scenario())


def test_a_loudspeaker_that_fails_under_a_hand_ends_nothing(
    run: Run[None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any) -> None:
        raise OSError("the card is gone")

    async def scenario() -> None:
        async with touched(tmp_path, TIME) as (rehearsal, hands):
            with monkeypatch.context() as gone:
                gone.setattr(type(rehearsal.device.loudspeaker), "play", lost)
                await hands.turn(1)
                await hands.tap()
                await asyncio.sleep(0.5)
            [turn] = await speaks(rehearsal)
            assert turn.intent == "clock.time"

    run(scenario())


def test_a_knob_sets_the_volume_and_never_to_nothing(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path) as (rehearsal, hands):
            loudspeaker = rehearsal.device.loudspeaker
            loudspeaker.set_volume(0.5)
            await hands.turn(3)
            assert loudspeaker.volume == pytest.approx(0.65)
            assert loudspeaker.heard > 0  # a tick, since nothing else was heard
            await hands.turn(-40)
            assert loudspeaker.volume == pytest.approx(0.05)
            await hands.turn(40)
            assert loudspeaker.volume == 1.0

    run(scenario())


# ---------------------------------------------------------------------------------------- mute switch


def test_the_switch_mutes_and_nobody_unmutes_but_the_switch(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path) as (rehearsal, hands):
            said = spoken(rehearsal)
            await hands.switch(closed=True)
            rehearsal.room.conversation.post(MuteSet(False))
            await rehearsal.at_rest()
            await hands.hold("button", 4.0)
            await rehearsal.at_rest()
            assert rehearsal.room.conversation.state.muted
            assert said == ["My microphone is off at its switch."] * 3
            await hands.switch(closed=False)
            assert not rehearsal.room.conversation.state.muted

    run(scenario())


def test_a_switch_that_is_off_when_the_room_starts_is_obeyed(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        factory = MockFactory(pin_class=MockPWMPin)
        pin = boards.load("desk-panel").mute_switch
        assert pin is not None
        factory.pin(pin.pin)._set_pull = lambda value: None  # somebody holds the line low
        factory.pin(pin.pin).drive_low()
        settings = scripted(listen={"mode": "button"}, gpio={"board": "desk-panel"})
        async with room(settings, tmp_path) as rehearsal, panel(rehearsal, factory):
            assert rehearsal.room.conversation.state.muted

    run(scenario())


# --------------------------------------------------------------------------------------------- lights

RGB = (12, 13, 16)


def test_the_light_tells_what_goes_on(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, TIME) as (rehearsal, hands):
            assert hands.light(*RGB) == (0, 0, 0)
            await hands.tap()
            assert hands.light(*RGB) == (0, 0.502, 1)
            await speaks(rehearsal)
            await asyncio.sleep(0.1)
            assert hands.light(*RGB) == (0, 0, 0)
            await hands.switch(closed=True)
            assert hands.light(*RGB) == (1, 0, 0)
        assert hands.light(*RGB) == (0, 0, 0)

    run(scenario())


def test_a_speaking_room_pulses_and_an_idle_one_sends_nothing(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, board="respeaker-2mic") as (rehearsal, hands):
            assert hands.wire.opened == (0, 1, 4_000_000)
            rehearsal.room.conversation.post(Prompt("A short story.", Source.CLI, verbatim=True))
            await rehearsal.at_rest()
            await asyncio.sleep(1)
            sent = len(hands.wire.sent)
            assert sent > 10
            assert hands.wire.sent[-1] == bytes(4) + bytes((0xFF, 0, 0, 0)) * 3 + bytes(5)
            await asyncio.sleep(3600)
            assert len(hands.wire.sent) == sent
        assert hands.wire.closed

    run(scenario())


@pytest.mark.parametrize(
    ("kind", "bad", "good"), [("device.health", "microphone lost", "ok"), ("store.failed", "full", None)]
)
def test_trouble_is_shown_until_it_is_over(run: Run[None], tmp_path: Path, kind: str, bad: str, good: str) -> None:
    async def scenario() -> None:
        async with touched(tmp_path) as (rehearsal, hands):
            rehearsal.room.feed.publish(kind, bad, source="test")
            await asyncio.sleep(1)
            assert hands.light(*RGB)[0] > 0
            rehearsal.room.feed.publish(kind if good else "store.back", good, source="test")
            await asyncio.sleep(0.1)
            assert hands.light(*RGB) == (0, 0, 0)

    run(scenario())


def test_lights_are_dim_in_quiet_hours(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        always = {"start": "00:00", "end": "00:00"}
        async with touched(tmp_path, quiet_hours=always) as (_, hands):
            await hands.tap()
            assert hands.light(*RGB) == (0, 0.151, 0.3)

    run(scenario())


def test_quiet_hours_dim_what_is_lit_and_nothing_else_is_sent(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        board, loop = "respeaker-2mic", asyncio.get_running_loop()
        assert isinstance(loop, SkippingLoop)
        loop.set_clock(datetime(2026, 11, 21, 21, 30, tzinfo=BERLIN))
        hours = {"start": "22:00", "end": "07:00"}
        async with touched(tmp_path, board=board, quiet_hours=hours) as (rehearsal, hands):
            rehearsal.room.conversation.post(MuteSet(True))
            await asyncio.sleep(60)
            bright, sent = hands.wire.sent[-1], len(hands.wire.sent)
            await asyncio.sleep(3600)
            assert len(hands.wire.sent) == sent + 1
            assert hands.wire.sent[-1][4] < bright[4], "the first byte of an LED is its brightness"

    run(scenario())


def test_a_strip_that_fails_is_told_and_the_buttons_go_on(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def writebytes2(self, content: bytes) -> None:
            raise OSError(5, "Input/output error")

        def close(self) -> None:
            pass

    async def scenario() -> None:
        settings = scripted(TIME, listen={"mode": "button"}, gpio={"board": "respeaker-2mic"})
        factory = MockFactory()
        async with room(settings, tmp_path) as rehearsal:
            ways = Ways(open_factory=lambda: factory, open_spi=lambda *_: Broken())
            async with beside(be_touched(rehearsal.room, ways), "board"):
                await asyncio.sleep(0.5)
                factory.pin(17).drive_low()
                await asyncio.sleep(0.1)
                factory.pin(17).drive_high()
                [turn] = await speaks(rehearsal)
                assert turn.intent == "clock.time"

    run(scenario())
    assert "gpio: the lights are out of use: [Errno 5] Input/output error" in caplog.text


# ------------------------------------------------------------------------------------------ bad input


async def voice_goes_on(tmp_path: Path, ways: Ways, **gpio: Any) -> None:
    async with (
        room(scripted(TIME, gpio=gpio), tmp_path) as rehearsal,
        beside(be_touched(rehearsal.room, ways), "board"),
    ):
        await asyncio.sleep(0.5)
        [turn] = await speaks(rehearsal)
        assert turn.intent == "clock.time"


def mock() -> Ways:
    factory = MockFactory(pin_class=MockPWMPin)
    return Ways(open_factory=lambda: factory, open_spi=no_spi)


def no_spi(*_: int) -> Any:
    raise EngineUnavailable(f"gpio: lights: spidev is missing; run: {pins.LIBRARY}")


def test_a_pin_that_is_in_use_is_one_line_and_the_rest_of_the_board_works(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from gpiozero import Button

    async def scenario() -> None:
        factory = MockFactory(pin_class=MockPWMPin)
        settings = scripted(TIME, listen={"mode": "button"}, gpio={"board": "desk-panel"})
        with Button(22, pin_factory=factory):
            async with room(settings, tmp_path) as rehearsal, panel(rehearsal, factory) as hands:
                await hands.tap("button")
                [turn] = await speaks(rehearsal)
                assert turn.intent == "clock.time"

    run(scenario())
    lines = [record.message for record in caplog.records if record.name.endswith("edges.gpio")]
    assert lines == ["gpio: buttons.left: GPIO22 is in use by something else; see what has it: gpioinfo"]


def test_an_unknown_board_is_one_line_with_those_there_are(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(voice_goes_on(tmp_path, mock(), board="respeaker-3mic"))
    assert f"gpio.board: there is no board 'respeaker-3mic'; choose one of {', '.join(boards.names())}" in caplog.text


def test_no_library_is_one_line_with_what_installs_it(
    run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gpiozero", None)
    run(voice_goes_on(tmp_path, Ways(), board="button-led"))
    assert "gpio: gpiozero is missing; run: sudo apt install python3-gpiozero" in caplog.text


def test_no_spi_leaves_the_button(run: Run[None], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run(voice_goes_on(tmp_path, mock(), board="respeaker-2mic"))
    assert "gpio: lights: " in caplog.text
    assert "gpio: buttons" not in caplog.text


BROKEN = {
    "buttons: {a: {pin: 99}}": "buttons.a.pin: Input should be less than or equal to 27",
    "buttons: {a: {pin: 4}, b: {pin: 4}}": "buttons.b: GPIO4 is buttons.a already",
    "buttons: {a: {pin: 10}}\nlights: {kind: ws2812, count: 3}": "lights: GPIO10 is buttons.a already",
    "buttons: {a: {pin: 4, pull: none}}": "buttons.a: active: say low or high, as nothing here pulls the line",
    "lights: {kind: neon}": "lights: Input tag 'neon' found using 'kind' does not match any of the expected tags",
    "lights: {kind: apa102, count: 9000}": "lights.apa102.count: Input should be less than or equal to 60",
    "looks: {idle: {colour: red}}": "looks.idle.colour: is no colour; write it as in '#0080ff'",
    "led: 5": "led: no such key",
    "{": "not YAML",
}


@pytest.mark.parametrize("content", BROKEN)
def test_a_broken_board_file_is_one_line_with_file_key_and_reason(tmp_path: Path, content: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(f"name: mine\n{content}\n")
    with pytest.raises(ConfigError) as told:
        boards.load(str(file))
    assert str(told.value).startswith(f"{file}: {BROKEN[content]}")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("use", "key", "said"),
    [
        ("tlak", "use", "Input should be 'talk', 'stop', 'mute' or 'repeat'"),
        ({"sya": "Dinner is ready."}, "action.sya", "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_use_of_a_button_is_one_mistake(use: object, key: str, said: str) -> None:
    with pytest.raises(ValidationError) as told:
        Gpio.model_validate({"board": "desk-panel", "buttons": {"left": use}})
    first, *others = told.value.errors()
    assert (".".join(str(part) for part in first["loc"]), first["msg"]) == (f"buttons.left.{key}", said)
    assert not others


def test_a_board_of_one_s_own_is_a_file(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "mine.yaml"
        file.write_text("name: mine\nbuttons: {doorbell: {pin: 4, pull: down}}\n")
        async with touched(tmp_path, board=str(file)) as (rehearsal, hands):
            hands.up("doorbell")  # pulled down, it is pressed when its line goes up
            await asyncio.sleep(0.01)
            assert mode(rehearsal) is Mode.LISTENING

    run(scenario())


@pytest.mark.parametrize("name", boards.names())
def test_every_shipped_board_opens(run: Run[None], tmp_path: Path, name: str) -> None:
    async def scenario() -> None:
        async with touched(tmp_path, board=name) as (rehearsal, hands):
            for button in hands.board.buttons:
                await hands.tap(button)
                assert mode(rehearsal) is Mode.LISTENING
            for pin in hands.board.power:
                assert hands.pin(pin).state

    run(scenario())


def persona(name: str, button: str | None, *triggers: Trigger) -> Persona:
    return Persona(id=name, name=name.title(), button=button, trigger_types=frozenset(triggers))


def test_what_is_wrong_with_the_uses_of_buttons_is_a_line_each() -> None:
    board = Board(name="two", buttons={"a": {"pin": 4}, "b": {"pin": 5}})
    people = [
        persona("cook", "a", Trigger.BUTTON),
        persona("butler", "nowhere", Trigger.BUTTON),
        persona("tutor", "b", Trigger.BUTTON),
        persona("sleeper", "b", Trigger.VOICE_COMMAND),
    ]
    bindings, mistakes = bind(board, {"a": Use.STOP, "c": Use.MUTE}, people)
    assert {name: (each.job, each.persona) for name, each in bindings.items()} == {
        "a": (Use.STOP, None),
        "b": (Use.TALK, "tutor"),
    }
    assert mistakes == [
        "gpio.buttons.c: two has no such button; it has a, b",
        "button 'nowhere' of butler: two has no such button; it has a, b",
        "button 'a' is wanted by cook, and gpio.buttons has another use for it; change one of them",
    ]


# --------------------------------------------------------------------------------------------- doctor


def found(board: str, *, running: bool = False, **buttons: str) -> list[tuple[str, str, str | None]]:
    ways = mock()
    settings = Gpio.model_validate({"board": board, "buttons": buttons})
    findings = gpio.look(settings, running=running, open_factory=ways.open_factory, open_spi=ways.open_spi)
    return [(finding.level, finding.said, finding.mend) for finding in findings]


def test_the_doctor_says_nothing_of_a_room_without_a_board() -> None:
    assert found("none") == []


def test_the_doctor_finds_a_board_in_order() -> None:
    assert found("desk-panel") == [("ok", "desk panel, buttons: button, left, right", None)]


def test_the_doctor_names_the_missing_library_and_what_installs_it() -> None:
    (finding,) = found("respeaker-2mic")
    assert finding == ("warn", "lights: spidev is missing", f"run: {pins.LIBRARY}")


def test_the_doctor_leaves_the_pins_to_a_running_daemon() -> None:
    assert found("respeaker-2mic", running=True) == [("ok", "ReSpeaker 2-Mics Pi HAT, buttons: button", None)]


def test_the_doctor_tells_an_unknown_board_and_an_unknown_button() -> None:
    (unknown,) = found("respeaker-3mic")
    assert unknown[0] == "warn"
    assert "there is no board 'respeaker-3mic'" in unknown[1]
    assert found("button-led", left="stop") == [("warn", "gpio.buttons.left: button and LED has only button", None)]
