"""What a person sees of a turn: where its milliseconds went."""

from __future__ import annotations

from roomtone.core.dialog import Latency
from roomtone.timeline import stages


def test_the_stages_add_up_to_the_first_sound() -> None:
    latency = Latency(endpoint=240, stt=130, think=2, tts=40, first_sound=412, total=2000, overhead=1.2)
    assert stages(latency) == (
        "endpoint 240 + stt 130 + think 2 + tts 40 = 412 ms to the first sound, 1 of them Roomtone's own"
    )


def test_stages_that_did_not_happen_are_left_out() -> None:
    assert stages(Latency(think=3, tts=5, first_sound=8, total=100, overhead=0)) == (
        "think 3 + tts 5 = 8 ms to the first sound, 0 of them Roomtone's own"
    )
    assert stages(Latency(endpoint=240, stt=130, total=400)) == "endpoint 240 + stt 130 ms, no sound"
    assert stages(Latency(total=400)) == "no sound"
