"""Find the utterances in sound files and transcribe them: one line an utterance."""

from __future__ import annotations

import argparse
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roomtone import engines
from roomtone.clock import run_skipping
from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.core.endpoint import Endpointer
from roomtone.core.errors import AudioError
from roomtone.core.sound import Audio, decode_wav
from roomtone.engines.stt import Hints
from roomtone.failover import open_stt
from roomtone.hearing import Heard, Recogniser, utterances
from roomtone.mind.sentences import Skills

AFTERWARDS_S = 3.0
"""Silence after a file, in which its last utterance ends."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the files."""
    parser.add_argument("files", nargs="+", type=Path, metavar="WAV", help="a sound file: WAV, FLAC or OGG")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Hear each file by itself; all files are read before the first is heard."""
    sounds = [read_sound(path) for path in args.files]
    return run_skipping(_hear_all(args, settings, sounds))


def read_sound(path: Path) -> Audio:
    """Read a sound file. Raises AudioError with one line where it is missing or no sound."""
    try:
        return decode_wav(path.read_bytes(), str(path))
    except OSError as error:
        raise AudioError(f"{path} cannot be read: {error.strerror}; check the path", file=str(path)) from error


async def _hear_all(args: argparse.Namespace, settings: Settings, sounds: list[Audio]) -> int:
    failed = False
    async with AsyncExitStack() as stack:
        stt = await stack.enter_async_context(open_stt(settings))
        skills = Skills.load(settings.language, args.state_dir and args.state_dir / "skills")
        recogniser = Recogniser(stt, skills, Hints(settings.language, skills.grammar()))
        for path, sound in zip(args.files, sounds, strict=True):
            for heard in await _hear(settings, sound, recogniser):
                _print(path, heard, stt.served_by, args.json)
                failed = failed or heard.error is not None
    return 1 if failed else 0


async def _hear(settings: Settings, sound: Audio, recogniser: Recogniser) -> list[Heard]:
    """Open fresh ears for one file: what one sounds like must not colour the next."""
    async with AsyncExitStack() as stack:

        async def opened(seam: str, name: str, chosen: Any) -> Any:
            return await stack.enter_async_context(engines.open_engine(seam, name, chosen))

        device = await opened("audio", "wav", engines.load("audio", "wav").Settings())
        vad = await opened("vad", *settings.engine("vad"))
        echo = await opened("echo", "none", engines.load("echo", "none").Settings())
        device.begin_inputs([sound], AFTERWARDS_S)
        return await utterances(device, echo, vad, Endpointer(settings.endpoint), recogniser)


def _print(path: Path, heard: Heard, engine: str, as_json: bool) -> None:
    if as_json:
        say_json({"file": str(path), **asdict(heard), "engine": engine})
    else:
        text = heard.text or (f"({heard.error})" if heard.error else "(not understood)")
        say_line(f"{path}  {heard.start_s:7.2f} - {heard.end_s:7.2f} s  {text}  [{engine}]")
