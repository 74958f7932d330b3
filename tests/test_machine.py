"""Dialogues with the machine, and a walk through all of its table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roomtone.core.arbitration import Kind
from roomtone.core.dialog import Ended, Source
from roomtone.core.effects import (
    Anticipate,
    Await,
    Become,
    Begin,
    Called,
    ChangeVolume,
    Chime,
    Commit,
    Drop,
    Duck,
    Effect,
    Hold,
    Notice,
    Patience,
    Record,
    Release,
    Rescue,
    Resume,
    SayAgain,
    Stop,
    Tell,
)
from roomtone.core.machine import Mode, State, step
from roomtone.core.signals import (
    Acted,
    Beat,
    Call,
    Dismiss,
    FirstSound,
    FloorKept,
    FloorTaken,
    LetGo,
    Misfired,
    Muter,
    MuteSet,
    MuteToggled,
    Overheard,
    Prompt,
    Repeat,
    Signal,
    SoundWentOn,
    SpeechEnded,
    SpeechPaused,
    SpeechStarted,
    StandDown,
    Switch,
    Timeout,
    TurnEnded,
    VolumeTurned,
    Wake,
)

QUESTION = Prompt("what time is it", Source.CLI)
ALARM = Prompt("Your timer is done.", Source.SCHEDULE, verbatim=True, alarm=True)


BEDTIME = Switch("storyteller", Source.SCHEDULE, "bedtime")


class Dialogue:
    """``says`` gives a signal and expects exactly these orders and this mode."""

    def __init__(self, **settings: bool) -> None:
        self.state = State(**settings)

    def says(self, signal: Signal, mode: Mode, *orders: Effect) -> Dialogue:
        self.state, effects = step(self.state, signal)
        assert (self.state.mode, effects) == (mode, list(orders)), signal
        return self


def speaking() -> Dialogue:
    """Be in the middle of turn 1's answer."""
    return (
        Dialogue()
        .says(SpeechStarted("u1"), Mode.LISTENING, Begin(1, "u1"))
        .says(SpeechEnded(), Mode.THINKING, Commit(1))
        .says(FirstSound(1), Mode.SPEAKING)
    )


def test_a_question_is_heard_answered_and_followed_by_listening() -> None:
    (
        Dialogue()
        .says(SpeechStarted("u1"), Mode.LISTENING, Begin(1, "u1"))
        .says(SpeechPaused(), Mode.LISTENING, Anticipate(1))
        .says(SpeechEnded(), Mode.THINKING, Commit(1))
        .says(FirstSound(1), Mode.SPEAKING)
        .says(TurnEnded(1), Mode.LISTENING, Record(1), Await(1, Patience.FOLLOW_UP))
        .says(Timeout(1), Mode.IDLE)
    )


def test_words_take_the_floor() -> None:
    (
        speaking()
        .says(SpeechStarted("u2"), Mode.INTERRUPT, Duck(), Begin(2, "u2"))
        .says(SoundWentOn(), Mode.INTERRUPT, Hold())
        .says(SpeechPaused(), Mode.INTERRUPT, Anticipate(2))
        .says(FloorTaken(2), Mode.LISTENING, Stop(1, Ended.INTERRUPTED), Resume())
        .says(SpeechEnded(), Mode.THINKING, Commit(2))
        .says(TurnEnded(1), Mode.THINKING, Record(1))
        .says(FirstSound(2), Mode.SPEAKING)
    )


def test_words_that_are_over_are_answered_at_once() -> None:
    (
        speaking()
        .says(SpeechStarted("u2"), Mode.INTERRUPT, Duck(), Begin(2, "u2"))
        .says(SpeechEnded(), Mode.INTERRUPT)
        .says(FloorTaken(2), Mode.THINKING, Stop(1, Ended.INTERRUPTED), Resume(), Commit(2))
    )


def test_a_cough_resumes_the_reply() -> None:
    (
        speaking()
        .says(SpeechStarted("cough"), Mode.INTERRUPT, Duck(), Begin(2, "cough"))
        .says(SpeechEnded(), Mode.INTERRUPT)
        .says(FloorKept(2), Mode.SPEAKING, Drop(2), Resume())
        .says(TurnEnded(2), Mode.SPEAKING, Record(2))
        .says(TurnEnded(1), Mode.LISTENING, Record(1), Await(1, Patience.FOLLOW_UP))
    )


def test_a_tap_resumes_the_reply_unheard() -> None:
    speaking().says(SpeechStarted("tap"), Mode.INTERRUPT, Duck(), Begin(2, "tap")).says(
        Misfired(), Mode.SPEAKING, Drop(2), Resume()
    )


def test_the_reply_ends_while_someone_speaks_and_they_are_heard_out() -> None:
    (
        speaking()
        .says(SpeechStarted("u2"), Mode.INTERRUPT, Duck(), Begin(2, "u2"))
        .says(TurnEnded(1), Mode.LISTENING, Record(1), Resume())
        .says(SpeechEnded(), Mode.THINKING, Commit(2))
    )


def test_who_goes_on_before_an_answer_is_heard_as_one() -> None:
    (
        Dialogue()
        .says(SpeechStarted("set a timer"), Mode.LISTENING, Begin(1, "set a timer"))
        .says(SpeechEnded(), Mode.THINKING, Commit(1))
        .says(SpeechStarted("for nine"), Mode.INTERRUPT, Hold(), Begin(2, "for nine", joined=1))
        .says(SpeechEnded(), Mode.INTERRUPT)
        .says(FloorTaken(2), Mode.THINKING, Drop(1), Resume(), Commit(2))
    )


def test_what_was_done_is_not_done_again() -> None:
    (
        Dialogue()
        .says(SpeechStarted("u1"), Mode.LISTENING, Begin(1, "u1"))
        .says(SpeechEnded(), Mode.THINKING, Commit(1))
        .says(Acted(1), Mode.THINKING)
        .says(SpeechStarted("u2"), Mode.INTERRUPT, Hold(), Begin(2, "u2"))
        .says(FloorTaken(2), Mode.LISTENING, Stop(1, Ended.INTERRUPTED), Resume())
    )


def test_the_first_sound_is_held_while_in_doubt() -> None:
    (
        Dialogue()
        .says(QUESTION, Mode.THINKING, Begin(1, prompt=QUESTION), Commit(1))
        .says(SpeechStarted("cough"), Mode.INTERRUPT, Hold(), Begin(2, "cough", joined=1))
        .says(FirstSound(1), Mode.INTERRUPT)
        .says(FloorKept(2), Mode.SPEAKING, Drop(2), Resume())
    )


def test_a_prompt_waits_its_turn_and_is_never_dropped() -> None:
    (
        speaking()
        .says(ALARM, Mode.SPEAKING)
        .says(TurnEnded(1), Mode.THINKING, Record(1), Begin(2, prompt=ALARM), Commit(2))
    )


def test_what_waits_already_word_for_word_does_not_wait_twice() -> None:
    again = Prompt("Dinner is ready.", Source.BUTTON, verbatim=True)
    pressed_often = speaking().says(again, Mode.SPEAKING).says(again, Mode.SPEAKING).says(ALARM, Mode.SPEAKING)
    assert pressed_often.state.parked == (again, ALARM)


def test_a_prompt_that_lost_the_floor_before_its_first_word_comes_again() -> None:
    (
        Dialogue()
        .says(ALARM, Mode.THINKING, Begin(1, prompt=ALARM), Commit(1))
        .says(SpeechStarted("u2"), Mode.INTERRUPT, Hold(), Begin(2, "u2", joined=1))
        .says(SpeechEnded(), Mode.INTERRUPT)
        .says(FloorTaken(2), Mode.THINKING, Drop(1), Resume(), Commit(2))
        .says(FirstSound(2), Mode.SPEAKING)
        .says(TurnEnded(2), Mode.THINKING, Record(2), Begin(3, prompt=ALARM), Commit(3))
    )


def test_dismissal_silences_and_lets_a_waiting_alarm_ring_later() -> None:
    (
        speaking()
        .says(ALARM, Mode.SPEAKING)
        .says(Dismiss(), Mode.IDLE, Stop(1, Ended.DISMISSED), Await(1, Patience.PARKED))
        .says(TurnEnded(1), Mode.IDLE, Record(1))
        .says(Timeout(1), Mode.THINKING, Begin(2, prompt=ALARM), Commit(2))
    )


def test_a_call_interrupts_and_listens_until_nobody_spoke() -> None:
    (
        Dialogue(open=False)
        .says(SpeechStarted("television"), Mode.IDLE)
        .says(Wake(), Mode.LISTENING, Chime(), Rescue(), Await(1, Patience.CALLED))
        .says(ALARM, Mode.LISTENING)
        .says(Misfired(), Mode.LISTENING)
        .says(Timeout(1), Mode.THINKING, Begin(1, prompt=ALARM), Commit(1))
        .says(FirstSound(1), Mode.SPEAKING)
        .says(Wake(), Mode.LISTENING, Stop(1, Ended.INTERRUPTED), Chime(), Await(2, Patience.CALLED))
    )


def test_a_click_after_a_call_does_not_end_the_listening() -> None:
    (
        Dialogue(open=False)
        .says(Wake(Source.VOICE), Mode.LISTENING, Chime(waits=True), Await(1, Patience.CALLED))
        .says(SpeechStarted("click"), Mode.LISTENING, Begin(1, "click"))
        .says(Misfired(), Mode.LISTENING, Drop(1), Await(2, Patience.CALLED))
        .says(Timeout(1), Mode.LISTENING)
        .says(Timeout(2), Mode.IDLE)
    )


def test_what_was_said_in_vain_is_answered_on_a_press_if_it_is_understood() -> None:
    pressed = (Chime(), Rescue(), Await(1, Patience.CALLED))
    (
        Dialogue(open=False)
        .says(Wake(), Mode.LISTENING, *pressed)
        .says(SpeechStarted("just now"), Mode.LISTENING, Begin(1, "just now"))
        .says(Overheard(2, understood=True), Mode.LISTENING)
        .says(Overheard(1, understood=True), Mode.THINKING, Commit(1))
    )
    (
        Dialogue(open=False)
        .says(Wake(), Mode.LISTENING, *pressed)
        .says(SpeechStarted("just now"), Mode.LISTENING, Begin(1, "just now"))
        .says(Overheard(1, understood=False), Mode.LISTENING, Drop(1), Await(2, Patience.CALLED))
        .says(Overheard(1, understood=True), Mode.LISTENING)
    )


def test_who_speaks_on_after_a_press_says_it_better_than_before() -> None:
    (
        Dialogue(open=False)
        .says(Wake(), Mode.LISTENING, Chime(), Rescue(), Await(1, Patience.CALLED))
        .says(SpeechStarted("just now"), Mode.LISTENING, Begin(1, "just now"))
        .says(Misfired(), Mode.LISTENING, Drop(1), Await(2, Patience.CALLED))
        .says(SpeechStarted("now"), Mode.LISTENING, Begin(2, "now"))
        .says(Overheard(1, understood=True), Mode.LISTENING)
        .says(SpeechEnded(), Mode.THINKING, Commit(2))
    )


def test_an_open_room_has_nothing_to_rescue_nor_has_anybody_but_the_button() -> None:
    Dialogue(open=True).says(Wake(), Mode.LISTENING, Chime(), Await(1, Patience.CALLED))
    Dialogue(open=False).says(Wake(Source.CLI), Mode.LISTENING, Chime(), Await(1, Patience.CALLED))


def test_muted_hears_nobody_but_alarms_still_ring() -> None:
    (
        Dialogue()
        .says(SpeechStarted("u1"), Mode.LISTENING, Begin(1, "u1"))
        .says(MuteSet(True), Mode.IDLE, Drop(1))
        .says(SpeechStarted("u2"), Mode.IDLE)
        .says(Wake(), Mode.IDLE, Tell(Notice.IS_MUTED))
        .says(ALARM, Mode.THINKING, Begin(2, prompt=ALARM), Commit(2))
        .says(FirstSound(2), Mode.SPEAKING)
        .says(SpeechStarted("u3"), Mode.SPEAKING)
        .says(TurnEnded(2), Mode.IDLE, Record(2))
    )


def test_more_speech_before_the_verdict_is_heard_with_what_came_before() -> None:
    (
        speaking()
        .says(SpeechStarted("u2"), Mode.INTERRUPT, Duck(), Begin(2, "u2"))
        .says(SpeechEnded(), Mode.INTERRUPT)
        .says(SpeechStarted("u3"), Mode.INTERRUPT, Begin(3, "u3", joined=2), Drop(2))
        .says(FloorTaken(2), Mode.INTERRUPT)
        .says(FloorTaken(3), Mode.LISTENING, Stop(1, Ended.INTERRUPTED), Resume())
    )


def test_a_change_of_persona_is_made_at_once_where_nobody_speaks() -> None:
    Dialogue().says(BEDTIME, Mode.IDLE, Become("storyteller", Source.SCHEDULE, "bedtime"))
    (
        speaking()
        .says(TurnEnded(1), Mode.LISTENING, Record(1), Await(1, Patience.FOLLOW_UP))
        .says(BEDTIME, Mode.LISTENING, Become("storyteller", Source.SCHEDULE, "bedtime"))
    )


def test_a_change_of_persona_waits_for_the_end_of_the_answer_and_comes_before_what_is_said_then() -> None:
    (
        speaking()
        .says(BEDTIME, Mode.SPEAKING)
        .says(ALARM, Mode.SPEAKING)
        .says(
            TurnEnded(1),
            Mode.THINKING,
            *(Record(1), Become("storyteller", Source.SCHEDULE, "bedtime"), Begin(2, prompt=ALARM), Commit(2)),
        )
    )


def test_a_cough_after_the_call_is_waited_past_once() -> None:
    (
        Dialogue(open=False)
        .says(Wake(Source.VOICE), Mode.LISTENING, Chime(waits=True), Await(1, Patience.CALLED))
        .says(SpeechStarted("cough"), Mode.LISTENING, Begin(1, "cough"))
        .says(SpeechEnded(), Mode.THINKING, Commit(1))
        .says(TurnEnded(1), Mode.LISTENING, Record(1), Await(2, Patience.CALLED))
        .says(SpeechStarted("again"), Mode.LISTENING, Begin(2, "again"))
        .says(SpeechEnded(), Mode.THINKING, Commit(2))
        .says(TurnEnded(2), Mode.IDLE, Record(2))
    )


def test_who_is_called_by_a_persona_of_its_own_is_listened_to_as_that_one() -> None:
    Dialogue().says(
        Wake(Source.BUTTON, "chef"),
        Mode.LISTENING,
        *(Become("chef", Source.BUTTON), Chime(), Await(1, Patience.CALLED)),
    )


def pressed() -> Dialogue:
    """Have a button held down."""
    return Dialogue(open=False).says(Wake(held=True), Mode.LISTENING, Chime(), Rescue(), Await(1, Patience.CALLED))


def test_who_holds_the_button_is_listened_to_until_they_let_go() -> None:
    (
        pressed()
        .says(Timeout(1), Mode.LISTENING)
        .says(SpeechStarted("u1"), Mode.LISTENING, Begin(1, "u1"))
        .says(LetGo(talked=True), Mode.LISTENING, Release(ends=True))
        .says(SpeechEnded(), Mode.THINKING, Commit(1))
    )


def test_who_lets_go_without_a_word_is_not_waited_for_long() -> None:
    (
        pressed()
        .says(LetGo(talked=True), Mode.LISTENING, Await(2, Patience.LET_GO))
        .says(Timeout(1), Mode.LISTENING)
        .says(Timeout(2), Mode.IDLE)
    )


def test_a_tap_waits_for_words_as_any_call_does() -> None:
    pressed().says(LetGo(), Mode.LISTENING).says(Timeout(1), Mode.IDLE)
    (
        pressed()
        .says(SpeechStarted("u1"), Mode.LISTENING, Begin(1, "u1"))
        .says(LetGo(), Mode.LISTENING, Release(ends=False))
        .says(LetGo(talked=True), Mode.LISTENING)
    )


def test_holding_on_in_silence_switches_the_microphone_off_and_on_again() -> None:
    (
        pressed()
        .says(MuteToggled(), Mode.IDLE, Tell(Notice.MUTED))
        .says(LetGo(talked=True), Mode.IDLE)
        .says(Wake(held=True), Mode.IDLE, Tell(Notice.IS_MUTED))
        .says(MuteToggled(), Mode.IDLE, Tell(Notice.UNMUTED))
    )


def test_who_speaks_while_holding_on_does_not_switch_the_microphone_off() -> None:
    pressed().says(SpeechStarted("u1"), Mode.LISTENING, Begin(1, "u1")).says(MuteToggled(), Mode.LISTENING)


def test_the_switch_in_the_hardware_wins_over_everything_else() -> None:
    (
        Dialogue()
        .says(MuteSet(True, Muter.SWITCH), Mode.IDLE)
        .says(MuteSet(False), Mode.IDLE, Tell(Notice.SWITCHED_OFF))
        .says(MuteToggled(), Mode.IDLE, Tell(Notice.SWITCHED_OFF))
        .says(Wake(), Mode.IDLE, Tell(Notice.SWITCHED_OFF))
        .says(SpeechStarted("u1"), Mode.IDLE)
        .says(MuteSet(False, Muter.SWITCH), Mode.IDLE)
        .says(SpeechStarted("u2"), Mode.LISTENING, Begin(1, "u2"))
    )


def test_the_switch_does_not_switch_on_what_the_household_switched_off() -> None:
    (
        Dialogue()
        .says(MuteSet(True), Mode.IDLE)
        .says(MuteSet(True, Muter.SWITCH), Mode.IDLE)
        .says(MuteSet(False, Muter.SWITCH), Mode.IDLE)
        .says(Wake(), Mode.IDLE, Tell(Notice.IS_MUTED))
    )


def test_who_did_not_catch_it_hears_it_again_whatever_goes_on() -> None:
    Dialogue().says(Repeat(), Mode.IDLE, SayAgain(Source.BUTTON))
    speaking().says(Repeat(), Mode.IDLE, Stop(1, Ended.INTERRUPTED), SayAgain(Source.BUTTON))


def test_a_knob_is_heard_only_where_nothing_else_is() -> None:
    Dialogue().says(VolumeTurned(2), Mode.IDLE, ChangeVolume(2, audibly=True))
    speaking().says(VolumeTurned(-1), Mode.SPEAKING, ChangeVolume(-1, audibly=False))


WORD = Call(1.0, "okay nabu", 0.9)
VOICE = Call(2.0)


def called() -> Dialogue:
    """Have the wake word heard."""
    return Dialogue(open=False).says(
        Wake(Source.VOICE, call=WORD),
        Mode.LISTENING,
        *(Called(1, Kind.WAKE, WORD), Chime(waits=True, call=1), Await(1, Patience.CALLED)),
    )


def test_a_call_that_another_room_answers_leaves_nothing_behind() -> None:
    called().says(StandDown(1), Mode.IDLE).says(Timeout(1), Mode.IDLE)
    (
        called()
        .says(SpeechStarted("u1", VOICE), Mode.LISTENING, Begin(1, "u1"), Called(2, Kind.ENGAGED, VOICE))
        .says(StandDown(2), Mode.LISTENING)
        .says(StandDown(1), Mode.IDLE, Drop(1, heard_out=True))
        .says(SpeechEnded(), Mode.IDLE)
    )


def test_a_room_that_thinks_already_stands_down_too_but_never_one_that_has_said_or_done_something() -> None:
    thinking = (
        called()
        .says(SpeechStarted("u1"), Mode.LISTENING, Begin(1, "u1"))
        .says(SpeechEnded(), Mode.THINKING, Commit(1))
    )
    state = thinking.state
    thinking.says(StandDown(1), Mode.IDLE, Drop(1, heard_out=True))
    for done, mode in ((FirstSound(1), Mode.SPEAKING), (Acted(1), Mode.THINKING)):
        thinking.state = state
        thinking.says(done, mode).says(StandDown(1), mode)


def test_who_goes_on_in_mid_thought_still_waits_for_the_same_room() -> None:
    (
        called()
        .says(SpeechStarted("u1"), Mode.LISTENING, Begin(1, "u1"))
        .says(SpeechEnded(), Mode.THINKING, Commit(1))
        .says(SpeechStarted("u2"), Mode.INTERRUPT, Hold(), Begin(2, "u2", joined=1))
        .says(FloorTaken(2), Mode.LISTENING, Drop(1), Resume())
        .says(StandDown(1), Mode.IDLE, Drop(2, heard_out=True))
    )


def test_a_later_call_is_not_taken_away_with_an_earlier_one() -> None:
    (
        called()
        .says(
            Wake(Source.VOICE, call=WORD),
            Mode.LISTENING,
            *(Called(2, Kind.WAKE, WORD), Chime(waits=True, call=2), Await(2, Patience.CALLED)),
        )
        .says(StandDown(1), Mode.LISTENING)
        .says(Wake(), Mode.LISTENING, Chime(), Await(3, Patience.CALLED))
        .says(StandDown(2), Mode.LISTENING)
    )


def test_who_calls_while_the_room_speaks_interrupts_it_and_the_loser_stays_silent() -> None:
    (
        speaking()
        .says(SpeechStarted("okay nabu", VOICE), Mode.INTERRUPT, Duck(), Begin(2, "okay nabu"), _engaged(1))
        .says(
            Wake(Source.VOICE, call=WORD),
            Mode.LISTENING,
            *(Drop(2), Stop(1, Ended.INTERRUPTED), Resume(), Called(2, Kind.INTERRUPTION, WORD)),
            *(Chime(waits=True, call=2), Await(1, Patience.CALLED)),
        )
        .says(StandDown(2), Mode.IDLE)
        .says(TurnEnded(1), Mode.IDLE, Record(1))
    )


def _engaged(number: int) -> Called:
    return Called(number, Kind.ENGAGED, VOICE)


def test_whoever_speaks_where_no_word_is_needed_may_mean_another_room() -> None:
    spoke = (Begin(1, "u1"), Called(1, Kind.SPEECH, VOICE))
    (
        Dialogue()
        .says(SpeechStarted("u1", VOICE), Mode.LISTENING, *spoke)
        .says(StandDown(1), Mode.IDLE, Drop(1, heard_out=True))
    )
    (
        Dialogue()
        .says(SpeechStarted("u1", VOICE), Mode.LISTENING, *spoke)
        .says(Misfired(), Mode.LISTENING, Drop(1), Await(1, Patience.FOLLOW_UP))
        .says(StandDown(1), Mode.LISTENING)
        .says(SpeechStarted("u2", VOICE), Mode.LISTENING, Begin(2, "u2"), Called(2, Kind.SPEECH, VOICE))
        .says(StandDown(2), Mode.IDLE, Drop(2, heard_out=True))
    )


def test_what_waited_is_said_when_the_room_stands_down() -> None:
    called().says(ALARM, Mode.LISTENING).says(StandDown(1), Mode.THINKING, Begin(1, prompt=ALARM), Commit(1))


def test_a_persona_that_was_called_comes_once_the_call_is_this_rooms() -> None:
    Dialogue(open=False).says(
        Wake(Source.VOICE, "chef", call=WORD),
        Mode.LISTENING,
        *(Called(1, Kind.WAKE, WORD), Become("chef", Source.VOICE, call=1)),
        *(Chime(waits=True, call=1), Await(1, Patience.CALLED)),
    )


# ------------------------------------------------------------------------------- the whole table

TURNS = (1, 2, 3, 99)
SIGNALS: tuple[Signal, ...] = (
    *(Wake(), Dismiss(), QUESTION, ALARM, SpeechStarted("u"), SpeechPaused(), SpeechEnded(), Misfired()),
    *(SoundWentOn(), MuteSet(True), MuteSet(False), Wake(persona="chef"), BEDTIME, Beat("anybody")),
    *(Wake(held=True), LetGo(), LetGo(talked=True), Repeat(), MuteToggled(), VolumeTurned(1)),
    *(MuteSet(True, Muter.SWITCH), MuteSet(False, Muter.SWITCH)),
    *(Wake(Source.VOICE, call=WORD), SpeechStarted("u", VOICE), StandDown(1), StandDown(2), StandDown(99)),
    *(Timeout(wait) for wait in (1, 2, 99)),
    *(kind(turn) for kind in (FirstSound, Acted, FloorTaken, FloorKept, TurnEnded) for turn in TURNS),
    *(Overheard(turn, understood) for turn in TURNS for understood in (True, False)),
)
NUMBERED = (FirstSound, Acted, FloorTaken, FloorKept, Overheard, TurnEnded)


def shape(state: State) -> State:
    """Rename a state's turns to 1 and 2, its call and its next wait to 1, so that the walk comes to an end."""
    names = {old: new for new, old in enumerate(sorted(t for t in (state.turn, state.rival) if t is not None), 1)}
    turn, rival = names.get(state.turn or 0), names.get(state.rival or 0)
    call = min(state.call, 1)
    renamed = replace(state, turn=turn, rival=rival, turns=len(names), call=call, calls=call)
    return replace(renamed, waits=min(state.waits, 1), parked=state.parked[:2])


def walk() -> dict[State, list[tuple[Signal, State, list[Effect]]]]:
    """Follow every signal from every state that can be reached."""
    reached: dict[State, list[tuple[Signal, State, list[Effect]]]] = {}
    waiting = [State(open=is_open, follows_up=follows) for is_open in (True, False) for follows in (True, False)]
    while waiting:
        state = waiting.pop()
        if state in reached:
            continue
        reached[state] = [(signal, *step(state, signal)) for signal in SIGNALS]
        waiting += [shape(after) for _, after, _ in reached[state]]
    return reached


@pytest.fixture(scope="module")
def reached() -> dict[State, list[tuple[Signal, State, list[Effect]]]]:
    return walk()


def edges(
    reached: dict[State, list[tuple[Signal, State, list[Effect]]]],
) -> list[tuple[State, Signal, State, list[Effect]]]:
    return [(state, *edge) for state, leaving in reached.items() for edge in leaving]


def test_every_mode_is_reached_and_none_is_a_trap(reached: dict) -> None:  # type: ignore[type-arg]
    assert {state.mode for state in reached} == set(Mode)
    for state, leaving in reached.items():
        assert any(after.mode is Mode.IDLE for _, after, _ in leaving), state


def test_two_turns_never_hold_the_floor(reached: dict) -> None:  # type: ignore[type-arg]
    """A turn begins to answer only when the one before it was ended, stopped or dropped."""
    for state, signal, after, effects in edges(reached):
        committed = [effect.turn for effect in effects if isinstance(effect, Commit)]
        gone = {effect.turn for effect in effects if isinstance(effect, Stop | Drop | Record)}
        answering = state.turn if state.mode in (Mode.THINKING, Mode.SPEAKING, Mode.INTERRUPT) else None
        assert len(committed) <= 1
        if committed and answering not in (None, *committed):
            assert answering in gone, (state, signal)
        if after.mode is Mode.INTERRUPT:
            assert after.rival is not None
            assert after.turn is not None
        else:
            assert after.rival is None


def test_nothing_comes_of_a_stale_signal(reached: dict) -> None:  # type: ignore[type-arg]
    for state, signal, after, effects in edges(reached):
        if isinstance(signal, NUMBERED) and signal.turn not in (state.turn, state.rival):
            assert after == state
            assert effects == ([Record(signal.turn)] if isinstance(signal, TurnEnded) else [])


def test_every_turn_that_ends_is_recorded(reached: dict) -> None:  # type: ignore[type-arg]
    for _, signal, _, effects in edges(reached):
        if isinstance(signal, TurnEnded):
            assert Record(signal.turn) in effects


def test_dismissal_always_silences(reached: dict) -> None:  # type: ignore[type-arg]
    for state, signal, after, effects in edges(reached):
        if isinstance(signal, Dismiss):
            assert after.mode is Mode.IDLE
            stopped = {effect.turn for effect in effects if isinstance(effect, Stop | Drop)}
            assert stopped == {turn for turn in (state.turn, state.rival) if turn is not None}
            assert not any(isinstance(effect, Begin | Commit) for effect in effects)


def test_a_prompt_is_begun_or_parked_and_never_lost(reached: dict) -> None:  # type: ignore[type-arg]
    for state, signal, after, effects in edges(reached):
        before = [
            *([state.prompt] if state.prompt and not state.acted else []),
            *(each for each in state.parked if isinstance(each, Prompt)),
        ]
        if isinstance(signal, Prompt):
            before.append(signal)
        begun = [effect.prompt for effect in effects if isinstance(effect, Begin) and effect.prompt]
        over = isinstance(signal, Dismiss | TurnEnded | FirstSound | Acted) and state.prompt
        kept = [*after.parked, *begun, *([after.prompt] if after.prompt and not begun else [])]
        missing = len([prompt for prompt in before if prompt not in kept])
        assert missing <= (1 if over else 0), (state, signal, after)


def test_a_change_of_persona_is_made_or_parked_and_never_lost(reached: dict) -> None:  # type: ignore[type-arg]
    for state, signal, after, effects in edges(reached):
        asked = [
            *(each for each in state.parked if isinstance(each, Switch)),
            *([signal] if signal == BEDTIME else []),
        ]
        made = [effect for effect in effects if isinstance(effect, Become) and effect.cause == BEDTIME.cause]
        parked = [each for each in after.parked if isinstance(each, Switch)]
        assert len(made) + len(parked) == len(asked), (state, signal)


def test_what_was_held_is_let_go(reached: dict) -> None:  # type: ignore[type-arg]
    """Leaving the doubt un-ducks the loudspeaker, or stops what it plays."""
    for state, signal, after, effects in edges(reached):
        if state.mode is Mode.INTERRUPT and after.mode is not Mode.INTERRUPT:
            freed = Resume() in effects or any(isinstance(effect, Stop) for effect in effects)
            assert freed, (state, signal)


def test_who_stands_down_is_silent_and_nobody_stands_down_in_mid_answer_or_for_another_call(reached: dict) -> None:  # type: ignore[type-arg]
    for state, signal, after, effects in edges(reached):
        if not isinstance(signal, StandDown):
            continue
        if not state.call or signal.call != state.call or state.acted:
            assert (after, effects) == (state, []), (state, signal)
            continue
        assert not any(isinstance(effect, Chime | Stop | Record | Tell) for effect in effects)
        dropped = {effect.turn for effect in effects if isinstance(effect, Drop) and effect.heard_out}
        assert dropped == {turn for turn in (state.turn, state.rival) if turn is not None}
        assert after.call == 0
        assert after.mode is Mode.IDLE or (after.mode is Mode.THINKING and state.parked)


def test_a_call_is_only_this_rooms_to_lose_while_it_listens_or_thinks(reached: dict) -> None:  # type: ignore[type-arg]
    for state in reached:
        if state.call:
            assert state.mode is not Mode.IDLE, state
            assert state.prompt is None, state
