"""Where utterances begin, pause and end, told by lists of frames: no sound files, no clock."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from roomtone.core.endpoint import (
    Boundary,
    Completeness,
    Ended,
    Endpointer,
    EndpointSettings,
    Misfire,
    Paused,
    Speech,
    Started,
    silence_to_end,
)
from roomtone.core.sound import FRAME, RATE, Audio

QUIET, VOICE = -58.0, -25.0
Take = list[tuple[float, float]]
"""Frames as (voice detector's probability, level in dBFS)."""


def frame(dbfs: float) -> Audio:
    samples = np.full(FRAME, round(32768 * 10 ** (dbfs / 20)), np.int16)
    samples[::2] *= -1
    return Audio(samples)


def quiet(seconds: float, dbfs: float = QUIET) -> Take:
    return [(0.0, dbfs)] * round(seconds * 50)


def speech(seconds: float, dbfs: float = VOICE) -> Take:
    return [(1.0, dbfs)] * round(seconds * 50)


def syllables(seconds: float) -> Take:
    """Speech with the dips that real speech has: 160 ms of voice, 40 ms of none."""
    return [*speech(0.16), *quiet(0.04)] * round(seconds * 5)


def fading(seconds: float) -> Take:
    """Speech whose last 160 ms sink by 23 dB, as the last word of a sentence does."""
    return [*speech(seconds - 0.16), *((1.0, VOICE - 2.9 * step) for step in range(1, 9))]


def hear(take: Take, endpointer: Endpointer) -> list[Boundary]:
    return [boundary for probability, dbfs in take for boundary in endpointer.feed(probability, frame(dbfs))]


def wait_ms(take: Take, completeness: Completeness | None = None) -> float:
    """How long after its last sound an utterance's end is known."""
    endpointer = Endpointer()
    heard = hear([*quiet(1), *take, *quiet(0.2)], endpointer)
    if completeness is not None:
        endpointer.expect(completeness)
    (ended,) = [b for b in [*heard, *hear(quiet(4), endpointer)] if isinstance(b, Ended)]
    return (ended.at - ended.last_speech) * 1000 / RATE


def test_a_quiet_room_says_nothing() -> None:
    assert hear(quiet(10), Endpointer()) == []


def test_an_utterance_starts_pauses_and_ends_and_is_cut_with_room_around_it() -> None:
    heard = hear([*quiet(1), *fading(0.6), *quiet(3)], Endpointer())
    assert [type(boundary) for boundary in heard] == [Started, Paused, Ended]
    started, paused, ended = heard
    assert isinstance(started, Started)
    assert isinstance(paused, Paused)
    assert isinstance(ended, Ended)
    assert started.at == 1.06 * RATE
    assert started.speech_from == 0.7 * RATE
    assert 1.5 * RATE <= ended.last_speech == paused.last_speech <= 1.6 * RATE
    assert paused.at - paused.last_speech == 0.1 * RATE
    assert ended.last_speech < ended.speech_to <= min(ended.at, ended.last_speech + 0.3 * RATE)


def test_a_voice_detector_that_hangs_on_does_not_delay_the_end() -> None:
    hanging_on = [(1.0, QUIET)] * 30
    assert wait_ms([*fading(0.6), *hanging_on]) == wait_ms(fading(0.6))


def test_a_person_may_pause_and_go_on() -> None:
    heard = hear([*quiet(1), *speech(0.4), *quiet(0.24), *speech(0.4), *quiet(3)], Endpointer())
    assert [type(boundary) for boundary in heard] == [Started, Paused, Paused, Ended]


def test_a_whole_command_is_answered_sooner_and_an_unfinished_one_is_waited_for() -> None:
    phrase = speech(1.2)
    complete, unknown, incomplete = (wait_ms(phrase, c) for c in Completeness)
    assert complete < unknown < incomplete


def test_what_the_text_was_worth_holds_only_until_more_is_said() -> None:
    endpointer = Endpointer()
    hear([*quiet(1), *speech(1.2), *quiet(0.2)], endpointer)
    endpointer.expect(Completeness.COMPLETE)
    heard = hear([*speech(0.4), *quiet(0.5)], endpointer)
    assert not [boundary for boundary in heard if isinstance(boundary, Ended)]


def spoken(seconds: float, *then: float) -> Speech:
    """An utterance of level speech that sinks at its end, and the levels heard since."""
    speech = Speech(FRAME, room=QUIET)
    for dbfs in [*[VOICE] * round(seconds * 50), *[VOICE - 11] * 3, *then]:
        speech.hear(dbfs, room=QUIET)
    return speech


def unknown_ms(speech: Speech, settings: EndpointSettings | None = None) -> float:
    return silence_to_end(speech, Completeness.UNKNOWN, settings or EndpointSettings())


def test_who_has_said_little_is_answered_sooner_than_who_says_much() -> None:
    short, long, longer = (unknown_ms(spoken(seconds, *[QUIET] * 6)) for seconds in (0.6, 1.2, 2.4))
    assert short < long < longer


def test_a_sound_in_the_pause_is_waited_for() -> None:
    sound = VOICE - 22
    assert unknown_ms(spoken(1, *[QUIET] * 6, sound)) > unknown_ms(spoken(1, *[QUIET] * 5, sound, QUIET)) + 100


def test_no_silence_ends_it_sooner_than_the_shortest_nor_later_than_the_longest() -> None:
    still = spoken(1, *[QUIET] * 6)
    assert unknown_ms(still, EndpointSettings(usual_ms=60, quick_ms=500)) == 500
    assert unknown_ms(still, EndpointSettings(usual_ms=3000, slow_ms=600)) == 600


def test_a_word_broken_off_is_waited_for_longer_than_one_that_fades() -> None:
    assert wait_ms(fading(0.5)) < wait_ms(speech(0.5))


def test_a_pause_that_is_not_silent_is_trusted_less() -> None:
    def wait(pause: float) -> float:
        speech = Speech(FRAME, room=-46)
        for dbfs in [*[VOICE] * 25, *[VOICE - 11] * 3, *[pause] * 6]:
            speech.hear(dbfs, room=-46)
        assert speech.last == 28
        return silence_to_end(speech, Completeness.UNKNOWN, EndpointSettings())

    assert wait(VOICE - 40) < wait(VOICE - 20)


def test_a_syllable_is_waited_for_longer_than_a_word() -> None:
    assert wait_ms(fading(0.6)) < wait_ms(fading(0.22))


def test_a_soft_tail_counts_towards_the_wait() -> None:
    faded = [*speech(0.5), *speech(0.06, VOICE - 16)]
    assert wait_ms([*faded, *speech(0.06, VOICE - 16)]) < wait_ms(faded)


def test_a_word_that_begins_softly_is_waited_for_from_its_first_sound() -> None:
    heard = hear([*quiet(1), *fading(0.6), *quiet(0.14), *speech(0.1, VOICE - 25), *speech(0.4)], Endpointer())
    assert [type(boundary) for boundary in heard] == [Started, Paused]


def test_a_short_sound_hardly_above_the_room_is_a_misfire() -> None:
    near, far = (hear([*quiet(1), *speech(0.16, QUIET + db), *quiet(3)], Endpointer())[-1] for db in (40, 12))
    assert isinstance(near, Ended)
    assert isinstance(far, Misfire)


def test_who_pauses_long_is_given_long_pauses() -> None:
    assert wait_ms(fading(1.6)) < wait_ms([*speech(0.5), *quiet(0.4), *fading(0.5)])


def test_endless_speech_ends_at_the_maximum() -> None:
    heard = hear([*quiet(1), *syllables(70)], Endpointer())
    ends = [boundary for boundary in heard if isinstance(boundary, Ended)]
    assert ends[0].at == 31 * RATE
    assert ends[1].last_speech > 60 * RATE


@pytest.mark.parametrize("length", [0.06, 0.08])
def test_a_tap_is_a_misfire(length: float) -> None:
    heard = hear([*quiet(1), *speech(length), *quiet(2)], Endpointer())
    assert isinstance(heard[-1], Misfire)


def test_a_click_is_nothing() -> None:
    assert hear([*quiet(1), *speech(0.04), *quiet(2)], Endpointer()) == []


def test_a_room_that_turns_noisy_does_not_hold_the_utterance_open() -> None:
    heard = hear([*quiet(1), *speech(1), *quiet(5, dbfs=VOICE - 22)], Endpointer())
    assert isinstance(heard[-1], Ended)
    assert heard[-1].last_speech <= 2.2 * RATE


def test_an_unfinished_text_holds_back_even_a_quick_end() -> None:
    endpointer = Endpointer()
    heard = hear([*quiet(1), *fading(0.7), *quiet(0.12)], endpointer)
    assert isinstance(heard[-1], Paused)
    endpointer.expect(Completeness.INCOMPLETE)
    heard = hear([*quiet(1), *fading(0.7), *quiet(2)], endpointer)
    assert [type(boundary) for boundary in heard] == [Paused, Ended]


def test_a_quiet_voice_is_heard_like_a_loud_one() -> None:
    def boundaries(gain: float) -> list[Boundary]:
        take = [*quiet(1), *fading(0.6), *quiet(3)]
        return hear([(p, max(-74.0, level + gain)) for p, level in take], Endpointer())

    assert boundaries(-8) == boundaries(0)


def test_reset_forgets_the_utterance_and_goes_on_counting() -> None:
    endpointer = Endpointer()
    hear([*quiet(1), *speech(0.5)], endpointer)
    assert endpointer.speaking
    endpointer.reset()
    assert not endpointer.speaking
    heard = hear([*quiet(1), *speech(0.5)], endpointer)
    assert heard == [Started(round(2.56 * RATE), round(2.2 * RATE))]


def test_settings_refuse_what_they_do_not_know() -> None:
    with pytest.raises(ValidationError):
        EndpointSettings.model_validate({"sloth_ms": 3})


takes = st.lists(
    st.tuples(st.integers(1, 40), st.floats(0, 1), st.floats(-90, -1), st.sampled_from([None, *Completeness])),
    max_size=30,
)


@given(takes)
def test_whatever_is_heard_boundaries_alternate_and_samples_only_grow(
    take: list[tuple[int, float, float, Completeness | None]],
) -> None:
    endpointer = Endpointer(EndpointSettings(maximum_ms=2000))
    now = free_from = 0
    begun: int | None = None
    last_speech = 0
    for frames, probability, dbfs, completeness in take:
        if completeness is not None:
            endpointer.expect(completeness)
        for _ in range(frames):
            now += FRAME
            for boundary in endpointer.feed(probability, frame(dbfs)):
                assert boundary.at == now
                match boundary:
                    case Started(speech_from=speech_from):
                        assert begun is None
                        assert free_from <= speech_from < now
                        begun = last_speech = speech_from
                    case Paused(last_speech=last):
                        assert begun is not None
                        assert last_speech < last < now
                        last_speech = last
                    case Ended(last_speech=last, speech_to=speech_to):
                        assert begun is not None
                        assert last_speech <= last <= speech_to <= now
                        assert now - begun <= 2.4 * RATE
                        free_from, begun = speech_to, None
                    case Misfire():
                        assert begun is not None
                        begun = None
            assert endpointer.speaking == (begun is not None)
