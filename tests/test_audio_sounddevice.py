"""The sound card: its judges and its two halves with lists, and the whole of it on a virtual card."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import Run
from roomtone.core.errors import AudioError, EngineUnavailable
from roomtone.core.playback import Playback
from roomtone.core.sound import HOP, RATE, Samples
from roomtone.engines import open_engine
from roomtone.engines.audio import _line
from roomtone.engines.audio import sounddevice as engine
from roomtone.engines.audio._card import CardMicrophone, Ear, FarEnd, Mouth, precede
from roomtone.engines.audio._vitals import GRACE_S, Vitals
from roomtone.flow import worker
from sound_card import Server
from test_audio_wav import far, listening, near, tone

# ------------------------------------------------------------------------------------------------- signs of life


def judged(frames: Callable[[float], int], seconds: float, zeros: Callable[[float], int] = lambda at: 0) -> Any:
    """Return the first verdict on a stream and when it fell, looking twice a second."""
    vitals = Vitals(RATE, opened_at=100.0, silence_s=10.0)
    for look in range(round(seconds * 2)):
        at = look / 2
        verdict = vitals.judge(100.0 + at, frames(at), zeros(at))
        if verdict is not None:
            return verdict, at
    return None


def test_a_card_that_delivers_in_time_is_alive_for_hours() -> None:
    assert judged(lambda at: int(at * RATE), 7200) is None


def test_a_card_may_deliver_in_bursts_and_take_two_seconds_to_begin() -> None:
    assert judged(lambda at: 1280 if at < 2 else int((at - 2) // 1 * RATE), 600) is None


def test_a_card_that_stops_is_noticed_after_two_seconds() -> None:
    assert judged(lambda at: int(min(at, 20) * RATE), 60) == ("frozen", 22)


def test_a_card_that_never_begins_is_noticed() -> None:
    assert judged(lambda at: 0, 60) == ("frozen", GRACE_S)


def test_a_card_at_half_its_rate_is_noticed() -> None:
    verdict, at = judged(lambda at: int(at * RATE / 2), 60)
    assert verdict == "running at 0.5 of its speed"
    assert at < 10


def test_a_card_that_slows_down_later_is_noticed() -> None:
    verdict, at = judged(lambda at: int(min(at, 300) * RATE + max(0, at - 300) * RATE / 2), 600)
    assert "speed" in verdict
    assert 300 < at < 306


def test_a_microphone_of_exact_zeros_is_dead() -> None:
    assert judged(lambda at: int(at * RATE), 60, lambda at: int(max(0, at - 20) * RATE)) == ("dead silent", 30)


def test_a_loudspeaker_may_be_silent_for_ever() -> None:
    vitals = Vitals(RATE, opened_at=0)
    assert not any(vitals.judge(at, at * RATE, at * RATE) for at in range(100))


# --------------------------------------------------------------------------------------------------- both halves


def counting(n: int, start: int = 1) -> Samples:
    return np.arange(start, start + n, dtype=np.int16)


def test_the_far_end_forgets_what_was_played_before_the_microphone_began() -> None:
    ends = FarEnd()
    ends.give(counting(5000))
    assert np.array_equal(ends.take(320), counting(320, start=4681))


def test_the_far_end_stands_in_zeros_and_loses_nothing_of_what_comes_late() -> None:
    ends = FarEnd()
    ends.take(320)
    ends.give(counting(100))
    late = ends.take(320)
    ends.give(counting(500, start=101))
    assert np.array_equal(np.concatenate([late[:100], ends.take(320)]), counting(420))
    assert not late[100:].any()


def test_clocks_that_differ_do_not_let_the_far_end_run_behind() -> None:
    ends = FarEnd()
    for sent in range(3000):  # a minute; the loudspeaker's clock is 0.6 % faster
        ends.give(np.full(322, sent, np.int16))
        behind = (sent - int(ends.take(320)[-1])) * 322 / RATE
    assert behind < 0.06, "untrimmed it would be 0.375 s"


@pytest.mark.parametrize("rate", [RATE, 44_100, 48_000])
def test_what_the_mouth_speaks_is_the_tone_at_the_cards_rate_and_the_far_end_gets_it_too(rate: int) -> None:
    playback, ends = Playback(), FarEnd()
    moves: list[None] = []
    mouth = Mouth(playback, ends, rate, lambda: moves.append(None))
    ends.take(0)
    mouth.speak(rate // 50)
    assert not moves
    playback.push(tone(0.5).samples)
    out = np.concatenate([np.frombuffer(mouth.speak(rate // 50), np.int16) for _ in range(40)])
    assert mouth.frames == rate // 50 * 41
    assert np.abs(np.fft.rfft(out[rate // 10 : rate // 10 + rate // 4])).argmax() * 4 == 440
    assert np.abs(out).max() == pytest.approx(8000, rel=0.02)
    assert np.array_equal(np.trim_zeros(ends.take(RATE)), np.trim_zeros(tone(0.5).samples))
    assert moves


@pytest.mark.parametrize("rate", [RATE, 44_100, 48_000])
def test_the_ear_hears_the_tone_at_16_khz_in_blocks_of_the_pace_with_the_far_end_beside_it(rate: int) -> None:
    heard: list[tuple[Samples, Samples, float]] = []
    ear = Ear(rate, FarEnd(), lambda: 0.08, lambda near, far, at: heard.append((near, far, at)))
    sound = tone(2.0, rate=rate)
    for start in range(0, len(sound), rate // 50):
        ear.hear(sound.cut(start, start + rate // 50).to_bytes(), start / rate)
    assert ear.frames == len(sound)
    assert ear.zeros == 0
    assert all(len(near) == len(far) for near, far, _ in heard)
    whole = np.concatenate([near for near, _, _ in heard])
    assert len(whole) / RATE == pytest.approx(2.0, abs=0.1)
    assert np.abs(np.fft.rfft(whole[4000:20_000])).argmax() == 440
    assert len(heard) <= 25


def test_the_ear_counts_exact_zeros_since_the_last_sound() -> None:
    ear = Ear(RATE, FarEnd(), lambda: 0.02, lambda *block: None)
    for block in (counting(320), np.zeros(320, np.int16), np.zeros(320, np.int16)):
        ear.hear(block.tobytes(), 0)
    assert ear.zeros == 640
    ear.hear(counting(320).tobytes(), 0)
    assert ear.zeros == 0


def test_blocks_of_a_foreign_thread_reach_the_loop_whole_and_in_order(run_in_real_time: Run[None]) -> None:
    async def main() -> None:
        microphone = CardMicrophone()
        ear = Ear(RATE, FarEnd(), microphone.block_s, microphone.take)
        microphone.pace(10)

        def card() -> None:
            for block in range(100):
                ear.hear(counting(300, start=block * 300).tobytes(), float(block))

        thread = threading.Thread(target=card)
        async with listening(microphone) as blocks:
            await asyncio.sleep(0)
            thread.start()
            async with asyncio.timeout(10):
                while sum(len(block.near) for block in blocks) < 100 * 300 // HOP * HOP:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
        thread.join()
        assert np.array_equal(near(blocks).samples, counting(100 * 300 // HOP * HOP, start=0))
        assert all(len(block.near) % HOP == 0 for block in blocks)

    run_in_real_time(main())


def test_a_stalled_loop_loses_the_oldest_sound_and_knows_how_much(run: Run[None]) -> None:
    async def main() -> None:
        microphone = CardMicrophone()
        aiter(microphone)
        for second in range(8):
            microphone.take(np.full(RATE, second, np.int16), np.zeros(RATE, np.int16), float(second))
        assert microphone.dropped == 3 * RATE
        for second in range(3, 8):
            assert (await anext(microphone)).near.samples[0] == second  # type: ignore[arg-type]  # its own iterator
        microphone.take(np.zeros(RATE, np.int16), np.zeros(RATE, np.int16), at=1.0)
        last = await anext(microphone)  # type: ignore[arg-type]  # its own iterator
        assert last.at == 7.0, "time never goes back"

    run(main())


def test_nothing_is_kept_for_a_microphone_nobody_listens_to(run: Run[None]) -> None:
    async def main() -> None:
        microphone = CardMicrophone()
        for _ in range(100):
            microphone.take(np.zeros(RATE, np.int16), np.zeros(RATE, np.int16), 0.0)
        assert microphone.dropped == 0

    run(main())


# ---------------------------------------------------------------------------------------------- choosing a device


class Cards:
    """What PortAudio would list."""

    PortAudioError = OSError

    def __init__(self, *names: str, refuses: int = 0) -> None:
        self.devices = [
            {
                "index": index,
                "name": name,
                "max_input_channels": 1,
                "max_output_channels": 2,
                "default_samplerate": 48e3,
            }
            for index, name in enumerate(names)
        ]
        self.refuses = refuses

    def query_devices(self, kind: str | None = None) -> Any:
        return self.devices[0] if kind else self.devices

    def check_input_settings(self, samplerate: int, **_: Any) -> None:
        if samplerate == self.refuses:
            raise self.PortAudioError("Invalid sample rate")


def test_a_device_is_found_by_part_of_its_name_and_the_whole_name_wins() -> None:
    cards = Cards("default", "Jabra SPEAK 410 USB: Audio (hw:1,0)", "jabra")
    assert _line.INPUT.find(cards, "speak 410")["index"] == 1
    assert _line.INPUT.find(cards, "jabra")["index"] == 2
    assert _line.INPUT.find(cards, "default")["index"] == 0


def test_an_absent_device_is_told_with_the_names_there_are() -> None:
    with pytest.raises(AudioError, match=r"no microphone is called 'jabra'; set audio\.input .* 'hat', 'usb'"):
        _line.INPUT.find(Cards("hat", "usb"), "jabra")
    with pytest.raises(AudioError, match=r"no loudspeaker was found.*aplay -l"):
        _line.OUTPUT.find(Cards(), "default")


def test_a_card_that_refuses_16_khz_is_opened_at_its_own_rate() -> None:
    assert _line.INPUT.rate(Cards("hat"), Cards("hat").devices[0]) == RATE
    assert _line.INPUT.rate(Cards("hat", refuses=RATE), Cards("hat").devices[0]) == 48_000


def test_a_card_in_use_is_told_with_the_command_that_finds_the_user() -> None:
    error = _line.INPUT.refused("hat", OSError("Error opening RawInputStream: Device unavailable [-9985]"))
    assert "in use by another program" in error.message
    assert "fuser" in error.message
    assert "\n" not in error.message


def test_a_turn_is_told_when_the_card_stays_away(run: Run[None]) -> None:
    from roomtone.engines.audio._speaker import Speaker

    async def main() -> None:
        speaker = Speaker(Playback())
        await speaker.play(tone(0.5))
        asyncio.get_running_loop().call_later(5, speaker.lost, "the sound card is lost")
        with pytest.raises(AudioError, match="lost"):
            await speaker.drained()
        with pytest.raises(AudioError, match="lost"):
            await speaker.play(tone(0.5))
        speaker.lost(None)
        await speaker.play(tone(0.1))

    run(main())


def test_without_any_device_the_engine_says_so_before_it_is_opened(tmp_path: Path) -> None:
    """In a process of its own, whose ALSA knows no sound server; a machine with a real card lacks nothing."""
    script = "from roomtone.engines.audio import sounddevice as s; print(s.missing(s.Settings()))"
    environment = os.environ | {"HOME": str(tmp_path), "PULSE_SERVER": f"unix:{tmp_path}/none"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert "sudo apt install libportaudio2" in done.stdout or "arecord -l" in done.stdout or done.stdout == "None\n"
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


# -------------------------------------------------------------------------------------------- real-time priority


def policies() -> set[int]:
    """Return how the threads of this process are scheduled."""
    return {os.sched_getscheduler(int(thread)) for thread in os.listdir("/proc/self/task")}


def test_the_card_s_thread_alone_runs_before_all_else_where_it_may() -> None:
    told: list[tuple[str | None, int, int]] = []

    def card() -> None:
        hindrance = precede()
        command = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
        child = subprocess.run(command, capture_output=True, check=True)
        told.append((hindrance, os.sched_getscheduler(0), int(child.stdout)))

    thread = threading.Thread(target=card)
    thread.start()
    thread.join()
    [(hindrance, own, child)] = told
    if hindrance is None:
        assert own == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    else:
        assert own == os.SCHED_OTHER
    assert child == os.SCHED_OTHER, "a recogniser must not run before the sound"
    assert policies() == {os.SCHED_OTHER}


def test_a_card_s_thread_that_may_not_hurry_says_so_once_and_goes_on(
    run: Run[None], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    caplog.set_level("INFO")

    async def main() -> None:
        with worker("portaudio") as portaudio:
            card = engine.SoundCard(engine.Settings(), portaudio)
            card.hurry()
            card.hurry()
            await asyncio.sleep(0.1)

    run(main())
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "without real-time priority (Operation not permitted)" in caplog.text


# ------------------------------------------------------------------------------------------------ a virtual card


@asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[Any]:
    chosen = engine.Settings(input="roommic", output="roomspk", **settings)
    async with open_engine("audio", "sounddevice", chosen) as card:
        yield card


async def until(truth: Callable[[], Any], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not truth():  # noqa: ASYNC110  # cards set no events
            await asyncio.sleep(0.02)


def pitch(samples: Samples) -> float:
    """Return the strongest frequency of the first loud second."""
    start = int(np.flatnonzero(np.abs(samples) > 2000)[0]) + 1000
    piece = samples[start : start + RATE // 2]
    return float(np.abs(np.fft.rfft(piece * np.hanning(len(piece)))).argmax() * RATE / len(piece))


@pytest.mark.hardware
def test_a_card_speaks_hears_is_lost_and_comes_back(
    run_in_real_time: Run[None], server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with opened(silence_s=0) as card, listening(card.microphone) as blocks:
            card.microphone.pace(20)
            await until(lambda: blocks)
            assert len(policies()) == 2 or precede() is not None
            await card.loudspeaker.play(tone(1.0, 1000, rate=22_050))
            await card.loudspeaker.drained()
            assert card.loudspeaker.heard == card.loudspeaker.queued == RATE
            await asyncio.sleep(0.5)
            assert pitch(near(blocks).samples) == pytest.approx(1000, abs=5), "the room was not heard"
            played, heard = far(blocks).samples, near(blocks).samples
            delay = (np.flatnonzero(np.abs(heard) > 2000)[0] - np.flatnonzero(np.abs(played) > 2000)[0]) / RATE
            assert 0 <= delay < 0.6, "the far end must not come later than its echo"
            assert abs(blocks[-1].at - asyncio.get_running_loop().time()) < 0.5

            server.kill()
            await until(lambda: card.health != "ok", 10)
            assert "reopening" in card.health
            with pytest.raises(AudioError, match="lost"):
                await card.loudspeaker.play(tone(0.5))
                await card.loudspeaker.drained()

            server.start()
            await until(lambda: card.health == "ok")
            before = len(blocks)
            await card.loudspeaker.play(tone(0.5, 700))
            await card.loudspeaker.drained()
            await until(lambda: near(blocks[before:]).dbfs > -40)
            assert pitch(near(blocks[before:]).samples) == pytest.approx(700, abs=5)

    run_in_real_time(main())
    lost = [record.getMessage() for record in caplog.records if "reopening" in record.getMessage()]
    assert len(lost) == 1
    assert "roommic" in lost[0]


@pytest.mark.hardware
def test_a_dead_silent_microphone_is_reopened_and_one_without_its_card_is_refused(
    run_in_real_time: Run[None], server: Server
) -> None:
    async def main() -> None:
        async with opened(silence_s=1) as card:
            await until(lambda: card.health == "microphone dead silent, reopening")
            await until(lambda: card.health == "microphone dead silent")
            feeding = threading.Thread(target=server.feed, args=(tone(3.0),))
            feeding.start()
            await until(lambda: card.health == "ok")
            feeding.join()
        server.kill()
        _line.restart()
        with pytest.raises(EngineUnavailable, match="no microphone"):
            async with opened():
                pass

    run_in_real_time(main())
