"""How well the recogniser hears voices that it was not trained on."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fixture_models import speech
from fixture_models.speech import Floats
from roomtone.core.dialog import Voice
from roomtone.core.room import active_dbfs, convolve, impulse_response
from roomtone.core.sound import RATE

LEAD_S, TAIL_S = 0.3, 0.4
LEVEL_DBFS = -28.0
SILENCES = 100


def measure(model: Path, phrases: list[str], voices: Sequence[str], piper_voices: list[Path]) -> None:
    """Print how many of the phrases come out exactly, by voice: near in a quiet room, and 2 m away in noise."""
    from faster_whisper import WhisperModel

    whisper = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=1)
    speakers: dict[str, Callable[[str], Floats]] = {
        **{voice: functools.partial(speech.said, voice=Voice(voice_id=voice)) for voice in voices},
        **{network.stem: functools.partial(speech.said_by_piper, network=network) for network in piper_voices},
    }
    began = time.process_time()
    for name, speak in speakers.items():
        spoken = [(phrase, speak(phrase)) for phrase in phrases]
        quiet = [phrase for phrase, sound in spoken if transcript(whisper, in_quiet(sound)) != phrase]
        noisy = [phrase for phrase, sound in spoken if transcript(whisper, far_in_noise(sound)) != phrase]
        counted = f"quiet {_percent(quiet, phrases)} noisy {_percent(noisy, phrases)}"
        print(f"{name:20} {counted}  wrong in quiet: {' '.join(quiet)}", flush=True)
    random = np.random.default_rng(1)
    heard = [text for _ in range(SILENCES) if (text := transcript(whisper, speech.without_speech(random).samples))]
    print(f"heard in {SILENCES} recordings of nobody: {heard}")
    print(f"{time.process_time() - began:.0f} CPU s")


def transcript(whisper: Any, samples: Any) -> str:
    """Return what is heard in 16 kHz float samples."""
    segments, _ = whisper.transcribe(
        samples,
        language="en",
        beam_size=1,
        temperature=0.0,
        without_timestamps=True,
        condition_on_previous_text=False,
    )
    return "".join(segment.text for segment in segments).strip()


def in_quiet(sound: Floats) -> Any:
    return _placed(sound, 32.0)


def far_in_noise(sound: Floats) -> Any:
    """Return how it arrives from 2 m away in a living room, 15 dB over the noise."""
    return _placed(convolve(sound, impulse_response(2.0, 0.4, seed=9))[: len(sound) + RATE // 4], 15.0)


def _placed(sound: Floats, over_noise_db: float) -> Any:
    random = np.random.default_rng(len(sound))
    level = active_dbfs(sound)
    whole = np.pad(sound, (round(LEAD_S * RATE), round(TAIL_S * RATE)))
    whole = whole + speech.noise(len(whole), level - over_noise_db, random)
    return (whole * 10 ** ((LEVEL_DBFS - level) / 20) / 32768).astype(np.float32)


def _percent(wrong: list[str], phrases: list[str]) -> str:
    return f"{100 * (1 - len(wrong) / len(phrases)):5.1f} %"
