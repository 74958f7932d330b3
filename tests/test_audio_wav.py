"""Files in, a file out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from roomtone.core.errors import AudioError, EngineUnavailable
from roomtone.core.sound import HOP, RATE, Audio, decode_wav, encode_wav, join, to_int16
from roomtone.engines import choose, open_engine
from roomtone.engines.audio import Capture, Microphone, wav


def tone(seconds: float, hertz: float = 440, rate: int = RATE) -> Audio:
    return Audio(to_int16(8000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)), rate)


@asynccontextmanager
async def listening(microphone: Microphone) -> AsyncIterator[list[Capture]]:
    """Collect what a microphone hears meanwhile."""
    blocks: list[Capture] = []

    async def collect() -> None:
        async for block in microphone:
            blocks.append(block)

    async with asyncio.TaskGroup() as group:
        listener = group.create_task(collect())
        yield blocks
        listener.cancel()


async def hear_all(microphone: Microphone) -> list[Capture]:
    return [block async for block in microphone]


def near(blocks: list[Capture]) -> Audio:
    return join(block.near for block in blocks)


def far(blocks: list[Capture]) -> Audio:
    return join(block.far for block in blocks)


def test_each_file_is_heard_once_with_a_gap_behind_it_and_then_the_microphone_ends(
    run: Run[list[Capture]], tmp_path: Path
) -> None:
    for name, hertz in (("a.wav", 300), ("b.wav", 600)):
        (tmp_path / name).write_bytes(encode_wav(tone(0.5, hertz)))

    async def main() -> list[Capture]:
        keys = {"inputs": [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")], "gap_s": 1.0}
        async with open_engine("audio", *choose("audio", "wav", keys)) as device:
            await asyncio.sleep(5)  # the first file waits for somebody to listen
            return await hear_all(device.microphone)

    heard = near(run(main())).samples.astype(float)
    assert len(heard) / RATE == pytest.approx(3.0)
    assert np.abs(heard[: RATE // 2] - tone(0.5, 300).samples).max() <= 10
    assert 0 < np.abs(heard[RATE // 2 : 3 * RATE // 2]).max() <= 10, "a gap is quiet, not digital silence"
    assert np.abs(heard[3 * RATE // 2 : 2 * RATE] - tone(0.5, 600).samples).max() <= 10


def test_blocks_come_when_they_end_and_as_large_as_asked_for(run: Run[None]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with wav.open(wav.Settings()) as device:
            previous = loop.time()
            blocks = 0
            async for block in device.microphone:
                blocks += 1
                assert block.at == pytest.approx(loop.time(), abs=1e-6)
                assert block.at - previous == pytest.approx(block.near.seconds, abs=1e-6)
                assert len(block.near) == len(block.far) == (HOP * 8 if blocks <= 3 else HOP)
                previous = block.at
                if blocks == 3:
                    device.microphone.pace(10)
                if blocks == 10:
                    return

    run(main())


def test_a_late_listener_and_a_late_loop_lose_nothing(run: Run[None]) -> None:
    async def main() -> None:
        async with wav.open(wav.Settings()) as device, listening(device.microphone) as blocks:
            await asyncio.sleep(0)
            device.visit(tone(1.0))
            asyncio.get_running_loop().skip(0.7)  # type: ignore[attr-defined]  # a callback that took so long
            await asyncio.sleep(1.3)
        assert near(blocks).seconds == pytest.approx(2.0, abs=0.081)
        assert np.abs(near(blocks).samples[:RATE].astype(int) - tone(1.0).samples).max() <= 10
        assert {round(second.at - first.at, 6) for first, second in pairwise(blocks)} == {0.08}

    run(main())


def test_what_is_played_is_the_far_end_at_the_same_time_and_never_leaks(run: Run[None]) -> None:
    async def main() -> None:
        async with wav.open(wav.Settings()) as device, listening(device.microphone) as blocks:
            await asyncio.sleep(0.333)
            await device.loudspeaker.play(tone(0.5))
            await device.loudspeaker.drained()
            assert asyncio.get_running_loop().time() == pytest.approx(0.84, abs=0.011)
            assert device.loudspeaker.heard == device.loudspeaker.queued == RATE // 2
            await asyncio.sleep(0.2)
        played = far(blocks).samples
        assert np.array_equal(played[round(0.33 * RATE) : round(0.83 * RATE)], tone(0.5).samples)
        assert not played[: round(0.33 * RATE)].any()
        assert near(blocks).dbfs < -85

    run(main())


def test_sound_of_another_rate_has_no_seams_and_loses_no_end(run: Run[None]) -> None:
    async def main() -> None:
        whole = tone(1.0, rate=22_050)
        async with wav.open(wav.Settings()) as device:
            for start in range(0, len(whole), 1000):
                await device.loudspeaker.play(whole.cut(start, start + 1000))
            await device.loudspeaker.drained()
            played = device.recording.samples
        assert device.loudspeaker.queued == RATE
        begin = int(np.flatnonzero(played)[0]) // HOP * HOP
        ideal = tone(1.0).samples.astype(int)
        error = played[begin : begin + RATE].astype(int) - ideal
        assert np.abs(error[100:-100]).max() < 40

    run(main())


def test_the_end_of_a_sound_does_not_wait_for_the_next_one(run: Run[None]) -> None:
    async def main() -> None:
        async with wav.open(wav.Settings()) as device:
            await device.loudspeaker.play(tone(0.1, rate=22_050))
            await asyncio.sleep(0.3)
            assert device.loudspeaker.heard == RATE // 10

    run(main())


def test_play_waits_while_more_than_a_second_is_queued_and_stop_lets_it_go(run: Run[None]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with wav.open(wav.Settings()) as device:
            await device.loudspeaker.play(tone(3.0))
            assert loop.time() == pytest.approx(2.0, abs=0.011)
            async with asyncio.TaskGroup() as group:
                group.create_task(device.loudspeaker.drained())
                await asyncio.sleep(0.5)
                device.loudspeaker.stop()
            assert loop.time() == pytest.approx(2.5, abs=0.021)
            assert device.loudspeaker.queued == device.loudspeaker.heard < 3 * RATE

    run(main())


def test_a_paused_reply_goes_on_where_it_was(run: Run[None]) -> None:
    async def main() -> None:
        async with wav.open(wav.Settings()) as device:
            await device.loudspeaker.play(tone(1.0))
            await asyncio.sleep(0.3)
            device.loudspeaker.pause()
            await asyncio.sleep(0.02)
            held = device.loudspeaker.heard
            assert 0.29 <= held / RATE <= 0.32
            await asyncio.sleep(7.003)
            assert device.loudspeaker.heard == held
            device.loudspeaker.resume()
            assert device.loudspeaker.heard == held, "the time it was paused is not made up for"
            await device.loudspeaker.drained()
            assert device.loudspeaker.heard == RATE

    run(main())


def test_the_recording_holds_visitors_and_the_loudspeaker_and_is_written(run: Run[None], tmp_path: Path) -> None:
    output = tmp_path / "out.wav"

    async def main() -> None:
        async with wav.open(wav.Settings(output=output)) as device:
            device.visit(tone(0.2, 300))
            await asyncio.sleep(0.5)
            await device.loudspeaker.play(tone(0.2, 900))
            await device.loudspeaker.drained()

    run(main())
    recording = decode_wav(output.read_bytes())
    assert np.array_equal(recording.samples[: RATE // 5], tone(0.2, 300).samples)
    assert np.array_equal(recording.samples[RATE // 2 : RATE // 2 + RATE // 5], tone(0.2, 900).samples)


def test_two_visitors_may_speak_at_once(run: Run[None]) -> None:
    async def main() -> None:
        async with wav.open(wav.Settings()) as device:
            device.visit(tone(0.2, 300))
            device.visit(tone(0.2, 500))
            await asyncio.sleep(0.3)
            together = tone(0.2, 300).samples + tone(0.2, 500).samples
            assert np.array_equal(device.recording.samples[: RATE // 5], together)

    run(main())


def test_a_failure_inside_comes_out_as_it_is(run: Run[None]) -> None:
    async def main() -> None:
        with pytest.raises(KeyError):
            async with wav.open(wav.Settings()):
                raise KeyError

    run(main())


def test_what_cannot_be_read_or_written_is_said_in_one_line(run: Run[None], tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match=r"no file .*absent\.wav"):
        open_engine("audio", "wav", wav.Settings(inputs=(tmp_path / "absent.wav",)))
    with pytest.raises(EngineUnavailable, match="mkdir -p"):
        open_engine("audio", "wav", wav.Settings(output=tmp_path / "absent" / "out.wav"))
    (tmp_path / "text.wav").write_text("no sound")

    async def main() -> None:
        with pytest.raises(AudioError, match="not a sound file"):
            async with wav.open(wav.Settings(inputs=(tmp_path / "text.wav",))):
                pass

    run(main())


def test_it_keeps_real_time_on_a_normal_loop(run_in_real_time: Run[list[Capture]]) -> None:
    async def main() -> list[Capture]:
        async with wav.open(wav.Settings()) as device:
            async for first in device.microphone:
                async for second in device.microphone:
                    return [first, second]
        raise AssertionError

    first, second = run_in_real_time(main())
    assert second.at - first.at == pytest.approx(0.08, abs=1e-6)
