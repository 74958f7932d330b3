"""What the daemon costs as a process: idle CPU and memory, and what it writes. Linux only (/proc)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from roomtone.bench import Figure
from roomtone.bench.endpointing import at_16k
from roomtone.bench.processes import alone_mb, children, cpu_s, pss_mb, written
from roomtone.core.dialog import Voice
from roomtone.core.sound import Audio, encode_wav, join, to_int16
from roomtone.ears import IDLE_BLOCK_MS
from roomtone.engines.audio import wav
from roomtone.engines.tts import espeak

IDLE_S = 20.0
SETTLE_S = 8.0
TURNS = 10
READY_BOUND_S = 60.0
DEVICE_S = 10.0
TALK_S = 120.0
TALK = "I went to the market this morning, and you will not believe whom I met beside the oranges."


def measure() -> list[Figure]:
    """Watch a daemon with the default engines in a silent room, and one among people; about two and a half minutes.

    Raises RuntimeError where the daemon does not come up.
    """
    return [*_in_silence(), *_among_people()]


def _in_silence() -> list[Figure]:
    """Run a daemon on a silent device; watch it idle, and let it answer ten questions.

    The wake word is armed where the package for it is
    there. ``idle_pss_mb`` shares libraries out among all programs that use them, such as another Python;
    ``idle_alone_mb`` is what the daemon and its children take where nothing else does. Real time: about a minute and
    a half.
    """
    with tempfile.TemporaryDirectory() as folder, _daemon(Path(folder)) as (daemon, ask):
        pids = [daemon.pid, *children(daemon.pid)]
        before_turns = written(pids)
        for _ in range(TURNS):
            ask("what time is it")
        time.sleep(SETTLE_S)
        per_turn = (written(pids) - before_turns) / TURNS / 1024
        cpu, before_idle = cpu_s(pids), written(pids)
        time.sleep(IDLE_S)
        idle = (cpu_s(pids) - cpu) / IDLE_S
        return [
            Figure("idle_cpu", round(idle, 4), "CPU s/s", "<= 0.01", round(IDLE_S)),
            Figure("idle_pss_mb", round(sum(map(pss_mb, pids)), 1), "MB", "<= 90", TURNS),
            Figure("idle_alone_mb", round(alone_mb(pids), 1), "MB", "", TURNS),
            Figure("writes_per_turn_kb", round(per_turn, 1), "kB", "<= 32", TURNS),
            Figure("idle_writes", written(pids) - before_idle, "bytes", "<= 0", round(IDLE_S)),
        ]


def _among_people() -> list[Figure]:
    """Run a daemon in a room where somebody speaks all the time, but not to it. Real time: about a minute.

    What the device of the bench takes for playing their speech, and no sound card would, is measured alone and
    taken off.
    """
    with tempfile.TemporaryDirectory() as folder:
        talk = Path(folder) / "talk.wav"
        talk.write_bytes(encode_wav(asyncio.run(_talk())))
        with _daemon(Path(folder), talk) as (daemon, _):
            pids = [daemon.pid, *children(daemon.pid)]
            time.sleep(SETTLE_S)
            cpu = cpu_s(pids)
            time.sleep(IDLE_S)
            busy = (cpu_s(pids) - cpu) / IDLE_S
        playing = asyncio.run(_device_cpu((talk,))) - asyncio.run(_device_cpu(()))
    return [Figure("idle_cpu_speech", round(busy - playing, 4), "CPU s/s", "<= 0.01", round(IDLE_S))]


async def _device_cpu(heard: tuple[Path, ...]) -> float:
    """Return the CPU seconds a second that the bench's device takes in an idle room."""
    async with wav.open(wav.Settings(inputs=heard)) as device:
        device.microphone.pace(IDLE_BLOCK_MS)
        blocks = aiter(device.microphone)
        await anext(blocks)
        cpu, begun = time.process_time(), time.monotonic()
        while time.monotonic() < begun + DEVICE_S:
            await anext(blocks)
        return (time.process_time() - cpu) / (time.monotonic() - begun)


async def _talk() -> Audio:
    """Return more speech than a measurement lasts, by two voices in turn, in a quiet room."""
    said = []
    async with espeak.open(espeak.Settings()) as tts:
        for number in range(round(TALK_S / 4)):
            voice = Voice(voice_id=("en-us+m3", "en-gb+f3")[number % 2])
            said += [at_16k(join([piece async for piece in tts.speak(TALK, voice)], 22_050)), Audio.silence(0.4)]
    sound = join(said)
    noise = np.random.default_rng(1).normal(0, 10, len(sound))
    return Audio(to_int16(sound.samples + noise))


@contextmanager
def _daemon(
    folder: Path, heard: Path | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], bool]]]:
    """Run a daemon that hears silence, or a sound file; yield it and what asks it something."""
    environment = {**os.environ, "ROOMTONE__AUDIO__ENGINE": "wav", "ROOMTONE__LISTEN__MODE": "wake_word"}
    environment["ROOMTONE__LOG__LEVEL"] = "warning"
    if heard is not None:
        environment |= {"ROOMTONE__AUDIO__INPUTS": f"[{heard}]", "ROOMTONE__LISTEN__FOLLOW_UP_S": "0"}
    roomtone = [sys.executable, "-m", "roomtone.cli"]
    where = ["--state-dir", str(folder)]
    # What a first start does once in the life of a room is not what is measured: a store is made, modules compiled.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run([*roomtone, "ask", "hello", *where], env=environment, capture_output=True, check=False)
    daemon = subprocess.Popen([*roomtone, "run", *where], env=environment, stdout=subprocess.DEVNULL)

    def ask(text: str) -> bool:
        asked = subprocess.run([*roomtone, "ask", text, *where], env=environment, capture_output=True, check=False)
        return asked.returncode == 0

    try:
        deadline = time.monotonic() + READY_BOUND_S
        while not (folder / "control.sock").exists() or not ask("what time is it"):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the daemon did not come up")
        yield daemon, ask
    finally:
        daemon.terminate()
        daemon.wait(timeout=READY_BOUND_S)
