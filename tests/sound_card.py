"""A virtual sound card for tests: a PulseAudio of their own, in which the loudspeaker leaks into the microphone."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes.util import find_library
from pathlib import Path

import pytest

from roomtone.core.sound import Audio, encode_wav
from roomtone.engines.audio import _line

ASOUNDRC = """
pcm.!default { type pulse hint { show on description "pulse" } }
pcm.roommic { type pulse device virt_mic hint { show on description "room microphone" } }
pcm.roomspk { type pulse device spk hint { show on description "room loudspeaker" } }
"""

SERVER = """
load-module module-native-protocol-unix auth-anonymous=1 socket={socket}
load-module module-null-sink sink_name=mic_feed rate=48000 channels=1
load-module module-remap-source source_name=virt_mic master=mic_feed.monitor
load-module module-null-sink sink_name=spk rate=48000 channels=2
load-module module-loopback source=spk.monitor sink=mic_feed latency_msec=30
set-default-source virt_mic
set-default-sink spk
"""


class Server:
    """A PulseAudio of one's own, with a microphone that hears what is fed to it and the loudspeaker's echo."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.socket = folder / "pulse.sock"
        (folder / "server.pa").write_text(SERVER.format(socket=self.socket))

    def start(self) -> None:
        options = ["--daemonize=no", "--exit-idle-time=-1", "--disable-shm=yes", "--use-pid-file=no", "--realtime=no"]
        command = ["pulseaudio", "-n", "-F", str(self._folder / "server.pa"), *options]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while subprocess.run(["pactl", "info"], capture_output=True, check=False).returncode:
            assert time.monotonic() < deadline, "pulseaudio did not start"
            time.sleep(0.05)

    def feed(self, audio: Audio) -> None:
        """Play a sound into the microphone."""
        (self._folder / "feed.wav").write_bytes(encode_wav(audio))
        subprocess.run(["paplay", "--device=mic_feed", str(self._folder / "feed.wav")], check=True)

    @contextmanager
    def recording(self) -> Iterator[Path]:
        """Record what leaves the loudspeaker for as long as the context lasts: 16 kHz, 16 bit, no header."""
        path = self._folder / "loudspeaker.raw"
        format_ = ["--format=s16le", "--rate=16000", "--channels=1", "--latency-msec=20"]
        with path.open("wb") as file:
            recorder = subprocess.Popen(["parec", "--device=spk.monitor", *format_], stdout=file)
            try:
                yield path
            finally:
                recorder.terminate()
                recorder.wait()

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    plugin = next(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"), None)
    if not (shutil.which("pulseaudio") and shutil.which("pactl") and plugin and find_library("portaudio")):
        pytest.skip("no virtual sound card: apt install pulseaudio pulseaudio-utils libasound2-plugins libportaudio2")
    made = Server(tmp_path)
    (tmp_path / ".asoundrc").write_text(ASOUNDRC)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PULSE_SERVER", f"unix:{made.socket}")
    made.start()
    _line.restart()
    yield made
    made.kill()
    _line.restart()
