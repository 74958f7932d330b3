"""What the lights show: by state and condition, moment by moment, and down to the bytes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roomtone import boards
from roomtone.core.dialog import Source
from roomtone.core.lights import (
    COLOURED,
    PLAIN,
    Animation,
    Conditions,
    Look,
    Shown,
    apa102,
    frame,
    next_change,
    shown,
    ws2812,
)
from roomtone.core.machine import Mode, State
from roomtone.core.signals import Prompt

RING = Prompt("Your timer is done.", Source.SCHEDULE, verbatim=True, alarm="a ring")
NOTHING = Conditions()
EVERYTHING = Conditions(error=True, offline=True, quiet=True)


@pytest.mark.parametrize("mode", list(Mode))
def test_every_state_has_a_light_of_its_own(mode: Mode) -> None:
    assert shown(State(mode=mode), NOTHING).value == mode.value


@pytest.mark.parametrize(
    ("state", "conditions", "what"),
    [
        (State(), Conditions(error=True), Shown.ERROR),
        (State(), Conditions(offline=True), Shown.OFFLINE),
        (State(), EVERYTHING, Shown.ERROR),
        (State(mode=Mode.LISTENING), EVERYTHING, Shown.LISTENING),
        (State(muted=True), EVERYTHING, Shown.MUTED),
        (State(mode=Mode.SPEAKING, muted=True), NOTHING, Shown.MUTED),
        (State(mode=Mode.SPEAKING, muted=True, prompt=RING), EVERYTHING, Shown.RINGING),
        (State(mode=Mode.SPEAKING, prompt=replace(RING, alarm=None)), NOTHING, Shown.SPEAKING),
    ],
)
def test_what_matters_most_is_shown(state: State, conditions: Conditions, what: Shown) -> None:
    assert shown(state, conditions) is what


@pytest.mark.parametrize("looks", [COLOURED, PLAIN])
def test_no_two_things_look_alike(looks: dict[Shown, Look]) -> None:
    assert set(looks) == set(Shown)
    assert len({(look.colour, look.animation, look.period_s) for look in looks.values()}) == len(Shown)


def test_a_single_led_tells_them_apart_without_colours() -> None:
    grey = {look.colour for look in PLAIN.values()}
    assert all(len({colour[1:3], colour[3:5], colour[5:7]}) == 1 for colour in grey)


def look(animation: Animation, colour: str = "#ff8000", period_s: float = 2.0) -> Look:
    return Look(colour=colour, animation=animation, period_s=period_s)


def test_an_idle_room_draws_nothing_more() -> None:
    assert next_change(COLOURED[Shown.IDLE], 0.0) is None
    assert next_change(look(Animation.STEADY), 5.0) is None
    assert next_change(look(Animation.SPIN, colour="#000000"), 5.0) is None


def test_a_blinking_light_is_drawn_when_it_turns_over_and_no_oftener() -> None:
    blinking = look(Animation.BLINK)
    assert frame(blinking, 0.9, 1) == ((1.0, 128 / 255, 0.0),)
    assert next_change(blinking, 0.9) == pytest.approx(0.1)
    assert frame(blinking, 1.0, 1) == ((0.0, 0.0, 0.0),)


@given(st.floats(0, 1e6), st.floats(0.1, 60))
def test_what_is_drawn_again_is_never_drawn_without_waiting(at: float, period_s: float) -> None:
    wait = next_change(look(Animation.BLINK, period_s=period_s), at)
    assert wait is not None
    assert wait >= 0.001


def test_a_pulse_swells_and_never_goes_dark() -> None:
    reds = [frame(look(Animation.PULSE), at / 10, 3)[0][0] for at in range(21)]
    assert reds[0] == pytest.approx(0.1)
    assert reds[10] == pytest.approx(1.0)
    assert min(reds) >= 0.1
    assert reds[20] == pytest.approx(reds[0])


def test_a_light_runs_round_a_ring_with_the_next_behind_it_fading() -> None:
    spinning = look(Animation.SPIN, period_s=4.0)
    places = [max(range(4), key=lambda led: frame(spinning, at, 4)[led][0]) for at in (0.0, 1.0, 2.0, 3.0, 4.0)]
    assert places == [0, 1, 2, 3, 0]


def test_apa102_leds_get_brightness_then_blue_green_and_red() -> None:
    sent = apa102([(1.0, 0.5, 0.0), (0.0, 0.0, 1.0)], 1.0)
    assert sent == bytes.fromhex("00000000 ff0080ff ffff0000 00000000 00")


def test_brightness_is_bounded_and_never_rounded_to_nothing() -> None:
    assert [apa102([(1.0, 1.0, 1.0)], level)[4] & 31 for level in (0.0, 0.01, 0.3, 1.0, 7.0)] == [0, 1, 10, 31, 31]


@pytest.mark.parametrize("count", [1, 3, 12, 16, 17, 60])
def test_apa102_chains_get_a_clock_for_every_two_leds(count: int) -> None:
    assert len(apa102([(0.0, 0.0, 0.0)] * count, 1.0)) * 8 >= 32 + 32 * count + 32 + count / 2


def bits_of_ws2812(sent: bytes) -> str:
    """Read what a WS2812 would: long highs are ones, short ones zeros."""
    line = "".join(f"{byte:08b}" for byte in sent[1:])
    thirds = [line[at : at + 3] for at in range(0, len(line) - 2, 3)]
    data = thirds[: next(at for at, third in enumerate(thirds) if third == "000")]
    assert set(data) <= {"100", "110"}
    return "".join("1" if third == "110" else "0" for third in data)


def test_ws2812_leds_get_green_red_and_blue() -> None:
    sent = ws2812([(1.0, 0.0, 0.5), (0.0, 1.0, 0.0)], 1.0)
    assert int(bits_of_ws2812(sent), 2).to_bytes(6, "big") == bytes([0, 255, 128, 255, 0, 0])


def test_ws2812_leds_are_shown_after_a_silence_of_300_us() -> None:
    sent = ws2812([(1.0, 1.0, 1.0)], 0.3)
    silence = len(sent) - len(sent.rstrip(b"\0"))
    assert silence * 8 / 2.4e6 >= 300e-6
    assert len(bits_of_ws2812(sent)) == 24


@pytest.mark.parametrize("name", boards.names())
def test_every_board_shows_everything(name: str) -> None:
    board = boards.load(name)
    for what in Shown:
        assert len(frame(board.look(what), 0.0, board.light_count)) == board.light_count


def test_a_board_brings_looks_of_its_own() -> None:
    board = boards.load("respeaker-2mic").model_copy(update={"looks": {Shown.IDLE: look(Animation.PULSE)}})
    assert board.look(Shown.IDLE) == look(Animation.PULSE)
    assert board.look(Shown.MUTED) == COLOURED[Shown.MUTED]
