from __future__ import annotations

import numpy as np
import pytest

import echo_rooms as rooms
from roomtone.core.echo_gate import EchoGate, Verdict
from roomtone.core.sound import HOP, Audio, to_int16
from roomtone.engines import choose, open_engine


def judge(gate: EchoGate, near: rooms.Floats, far: rooms.Floats) -> list[Verdict]:
    pairs = zip(to_int16(near).reshape(-1, HOP), to_int16(far).reshape(-1, HOP), strict=True)
    return [gate.feed(mic, played) for mic, played in pairs]


def whole_frames(sound: rooms.Floats) -> rooms.Floats:
    return sound[: len(sound) // HOP * HOP]


def reply(voice: str) -> rooms.Floats:
    """Half a second of nothing, then half a minute of Roomtone's own voice."""
    return whole_frames(np.concatenate([np.zeros(8000), *(rooms.speech(text, voice) for text in rooms.REPLIES)]))


@pytest.mark.parametrize("seed", range(3))
def test_roomtones_own_voice_is_nobody(seed: int) -> None:
    room = rooms.EchoRoom.of(seed)
    far = reply("en-us")
    echo = room.echo(far)
    verdicts = judge(EchoGate(), echo + room.noise(len(echo), rooms.active_rms(echo)), far)
    assert max(verdict.person for verdict in verdicts) < 0.5


def test_while_nothing_is_played_the_gate_leaves_the_room_to_the_voice_detector() -> None:
    voice = whole_frames(rooms.speech("what time is it", "en-us+f3"))
    assert set(judge(EchoGate(), voice, np.zeros(len(voice)))) == {Verdict(0.0, playing=False)}


def test_frames_of_another_length_are_refused(run: object) -> None:
    async def refuse() -> None:
        for name in ("gate", "none"):
            async with open_engine("echo", *choose("echo", name, {})) as echo:
                with pytest.raises(ValueError, match="160 samples"):
                    echo.process(Audio.silence(0.02), Audio.silence(0.02))

    run(refuse())  # type: ignore[operator]
