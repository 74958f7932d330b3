"""The simulated room."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from conftest import Run
from roomtone.core import room
from roomtone.core.errors import AudioError, EngineUnavailable
from roomtone.core.sound import HOP, RATE, Audio, encode_wav, join, level, to_int16
from roomtone.engines import choose, open_engine
from roomtone.engines.audio import Capture, sim
from test_audio_wav import far, listening, near, tone


def chatter(seconds: float, seed: int = 3, dbfs: float = -20) -> Audio:
    """Noise in syllables: 150 ms of sound, 100 ms of none."""
    noise = room.coloured_noise(seconds, dbfs, seed)
    return Audio(to_int16(noise * (np.arange(len(noise)) % 4000 < 2400)))


def test_streaming_convolution_equals_convolution_of_the_whole() -> None:
    generator = np.random.default_rng(1)
    sound, response = generator.standard_normal(HOP * 40), generator.standard_normal(1234)
    sound[HOP * 5 : HOP * 25] = 0  # long enough for the stream to fall asleep
    convolver = room.Convolver(response)
    streamed = np.concatenate([convolver.feed(block) for block in sound.reshape(-1, HOP)])
    assert np.allclose(streamed, room.convolve(sound, response)[: len(sound)])


def test_the_tail_falls_60_db_in_the_rooms_time_and_outweighs_the_direct_sound_far_away() -> None:
    response = room.impulse_response(1.5, 0.4, seed=1)
    travel = round(1.5 / room.SPEED_OF_SOUND * RATE)
    assert not response[:travel].any()
    assert response[travel] == 1
    tail = response[travel + 1 :]
    fall = level(tail[:800] * 1000) - level(tail[3200:4000] * 1000)
    assert fall == pytest.approx(60 * 0.2 / 0.4, abs=3)
    ratios = [-10 * np.log10(np.sum(room.impulse_response(metres, 0.4, 1) ** 2) - 1) for metres in (0.1, 0.5, 2)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] > 10 > 0 > ratios[2]
    assert len(room.impulse_response(1.5, 0, seed=1)) == travel + 1


def test_a_small_loudspeaker_has_no_bass_and_distorts_more_the_harder_it_is_driven() -> None:
    response = np.abs(np.fft.rfft(room.small_loudspeaker(), RATE))
    assert response[1000] == pytest.approx(1, abs=0.05)
    assert response[60] < 0.15
    sine = 16_000 * np.sin(2 * np.pi * 500 * np.arange(RATE) / RATE)
    harmonics = []
    for drive in (0, 0.5, 3):
        spectrum = np.abs(np.fft.rfft(room.distort(sine, drive)))
        harmonics.append(spectrum[[1000, 1500]].sum() / spectrum[500])
    assert harmonics[0] < 1e-9 < harmonics[1] < harmonics[2] < 1
    quiet = room.distort(sine / 1000, 0.5)
    assert np.allclose(quiet, sine / 1000, atol=0.05)


def test_noise_is_as_loud_as_asked_and_its_loop_has_no_seam() -> None:
    noise = room.coloured_noise(2, -50, seed=1)
    assert level(noise) == pytest.approx(-50, abs=0.01)
    assert abs(noise[0] - noise[-1]) < 6 * np.abs(np.diff(noise)).std()


def test_active_level_does_not_count_pauses() -> None:
    speech = chatter(2.0)
    padded = join([speech, Audio.silence(8)])
    assert room.active_dbfs(padded.samples) == pytest.approx(room.active_dbfs(speech.samples), abs=0.7)
    assert room.active_dbfs(Audio.silence(1).samples) == -100


def captures(run: Run[list[Capture]], settings: sim.Settings) -> list[Capture]:
    async def main() -> list[Capture]:
        async with sim.open(settings) as device, listening(device.microphone) as blocks:
            device.visit(chatter(1.0, seed=9), distance_m=2)
            await device.loudspeaker.play(chatter(1.0))
            await asyncio.sleep(1.5)
        return blocks

    return run(main())


def test_one_seed_is_one_room_however_its_blocks_are_cut(run: Run[list[Capture]]) -> None:
    settings = sim.Settings(bumps_per_minute=60)
    first, again = captures(run, settings), captures(run, settings)
    assert np.array_equal(near(first).samples, near(again).samples)
    other = captures(run, sim.Settings(bumps_per_minute=60, seed=2))
    assert not np.array_equal(near(first).samples, near(other).samples)


def test_the_leak_is_as_loud_and_as_late_as_the_settings_say(run: Run[list[Capture]]) -> None:
    async def main() -> list[Capture]:
        settings = sim.Settings(leak_db=-9, delay_ms=80, noise_dbfs=-100)
        async with sim.open(settings) as device, listening(device.microphone) as blocks:
            await device.loudspeaker.play(chatter(3.0))
            await asyncio.sleep(3.5)
            assert device.echo_dbfs(chatter(3.0)) == pytest.approx(room.active_dbfs(near(blocks).samples), abs=0.5)
            device.loudspeaker.set_volume(0.5)
            assert device.echo_dbfs(chatter(3.0)) == pytest.approx(room.active_dbfs(near(blocks).samples) - 12, abs=1)
        return blocks

    blocks = run(main())
    played, heard = far(blocks).samples, near(blocks).samples
    gain = room.active_dbfs(heard) - room.active_dbfs(played)
    assert gain == pytest.approx(-9, abs=1.5)
    match = np.abs(np.fft.irfft(np.fft.rfft(heard) * np.conj(np.fft.rfft(played, len(heard)))))
    assert int(match[: RATE // 2].argmax()) / RATE == pytest.approx(0.080, abs=0.002)


def test_a_visitor_is_as_loud_as_asked_or_as_their_distance_makes_them(run: Run[None]) -> None:
    async def main() -> None:
        levels = []
        for distance, dbfs in ((1.5, -20.0), (3.0, -35.0), (1.0, None), (2.0, None)):
            settings = sim.Settings(noise_dbfs=-100, captures=True)
            async with sim.open(settings) as device:
                device.visit(chatter(2.0), distance, dbfs)
                await asyncio.sleep(2)
                levels.append(room.active_dbfs(device.captured.samples))
        assert levels == pytest.approx([-20, -35, room.TALKER_DBFS, room.TALKER_DBFS - 6], abs=0.7)

    run(main())


def test_visits_of_the_settings_are_counted_from_the_first_listener(run: Run[list[Capture]], tmp_path: Path) -> None:
    wav = tmp_path / "hello.wav"
    wav.write_bytes(encode_wav(tone(0.3, rate=44_100)))
    visit = {"wav": str(wav), "at_s": 1.0, "distance_m": 1, "dbfs": -15}

    async def main() -> list[Capture]:
        engine = choose("audio", "sim", {"visits": [visit], "noise_dbfs": -100})
        async with open_engine("audio", *engine) as device:
            await asyncio.sleep(3)
            async with listening(device.microphone) as blocks:
                await asyncio.sleep(2)
        return blocks

    heard = near(run(main())).samples
    onset = int(np.flatnonzero(np.abs(heard.astype(int)) > 500)[0]) / RATE
    assert onset == pytest.approx(1.0 + 1 / room.SPEED_OF_SOUND, abs=0.002)


def test_a_quiet_room_can_be_digital_silence_and_bumps_can_break_it(run: Run[None]) -> None:
    async def main() -> None:
        async with sim.open(sim.Settings(noise_dbfs=-100, captures=True)) as device:
            await asyncio.sleep(1)
            assert not device.captured.samples.any()
        async with sim.open(sim.Settings(noise_dbfs=-60, bumps_per_minute=30, captures=True)) as device:
            await asyncio.sleep(20)
            heard = device.captured.samples.reshape(-1, HOP)
            levels = [level(block) for block in heard]
            assert max(levels) > -45
            assert np.median(levels) == pytest.approx(-60, abs=5)

    run(main())


def test_what_the_microphone_heard_is_kept_only_when_asked(run: Run[None]) -> None:
    async def main() -> None:
        async with sim.open(sim.Settings()) as device:
            with pytest.raises(AudioError, match="captures"):
                _ = device.captured

    run(main())


def test_a_visitor_without_a_file_is_named(tmp_path: Path) -> None:
    settings = sim.Settings(visits=(sim.Visit(wav=tmp_path / "nobody.wav", at_s=1),))
    with pytest.raises(EngineUnavailable, match=r"nobody\.wav"):
        open_engine("audio", "sim", settings)
