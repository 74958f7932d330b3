"""Take each sound file as a person speaking into the microphone, one after the other, in one session.

The files go through the daemon's own pipeline, as fast as its engines work; a line a turn says what was heard, what
was answered, and what each stage took.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from roomtone import engines
from roomtone.clock import run_skipping
from roomtone.commands import say_json, say_line
from roomtone.commands.hear import read_sound
from roomtone.config import Settings
from roomtone.core.dialog import Ended, Source, Turn
from roomtone.core.signals import Wake
from roomtone.core.sound import Audio
from roomtone.rehearsal import prepare, rehearsing, state_for
from roomtone.timeline import turn_lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the files, how to listen, and where to write the sound."""
    parser.add_argument("files", nargs="+", type=Path, metavar="WAV", help="a sound file: WAV, FLAC or OGG")
    parser.add_argument(
        "--listen",
        choices=("open", "button", "wake_word"),
        default="open",
        help="open (the default); button: pressed before each file; wake_word: the files must hold it",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write replies, conversation and turns here")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Read all files first: a wrong one costs nothing that was said."""
    sounds = [read_sound(path) for path in args.files]
    listen = settings.listen.model_copy(update={"mode": args.listen})
    prepare(args.out)
    return run_skipping(_converse(args, settings.model_copy(update={"listen": listen}), sounds))


async def _converse(args: argparse.Namespace, settings: Settings, sounds: list[Audio]) -> int:
    failed = False
    silent = ("wav", engines.load("audio", "wav").Settings())
    async with (
        state_for(args.state_dir) as state_dir,
        rehearsing(settings, state_dir, silent, args.out, rings=args.state_dir is None) as rehearsal,
    ):
        for path, sound in zip(args.files, sounds, strict=True):
            if args.listen == "button":
                rehearsal.room.conversation.post(Wake(Source.BUTTON))
            rehearsal.device.visit(sound)
            for turn in await rehearsal.at_rest() or [rehearsal.nothing_heard()]:
                _print(path, turn, args.json)
                failed = failed or turn.ended is Ended.FAILED
    return 1 if failed else 0


def _print(path: Path, turn: Turn, as_json: bool) -> None:
    if as_json:
        say_json(turn)
        return
    say_line(f"{path}: {turn.heard or '(nothing understood)'}")
    for line in turn_lines(turn):
        say_line(f"  {line}")
