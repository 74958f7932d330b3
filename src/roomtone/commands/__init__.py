"""The commands of ``roomtone``: one module each, imported only when it is named.

A command's module holds ``add_arguments(parser)`` and ``run(args, settings) -> int``, the exit code. Its docstring is
what ``roomtone COMMAND --help`` says first. ``run`` may raise RoomtoneError: the command line prints it.
``--config``, ``--state-dir``, ``--json`` and ``--debug`` are there for every command; one with commands of its own
gives ``parents=[common_options()]`` to their parsers.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

COMMANDS = {
    "run": "the daemon",
    "demo": "a simulated room in which visitors speak and Roomtone answers",
    "converse": "take each WAV file as a person speaking, and answer",
    "hear": "find and transcribe the utterances in WAV files",
    "say": "speak a text",
    "ask": "ask as if it had been heard",
    "bench": "measure the numbers Roomtone is held to",
    "config": "the effective configuration, secrets masked",
    "event": "tell the daemon that something has happened",
    "history": "what was said, and why it went so",
    "receipt": "what left this machine, to whom and why, and what models cost",
    "memory": "what it was told to remember",
    "routines": "what is done in several steps, and how it went",
    "metrics": "what the running daemon has counted, for Prometheus",
    "personas": "who the room can speak as, and earlier versions of them",
    "hub": "the rooms of the house, and conversations that move",
    "engines": "what is installed, what auto chose and why",
    "doctor": "what is the matter, and the command that mends it",
    "first-boot": "take in roomtone.yaml from the SD card",
    "backup": "everything in one file, while the daemon goes on",
    "restore": "take a backup in, here or on another machine",
    "maintain": "the night's work: look whether all is whole, and keep a backup",
    "models": "get recognisers and voices, and look whether they are whole",
    "upgrade": "bring this machine to another version",
    "rollback": "go back to the version before",
}
"""Every command and its line in ``roomtone --help``, in that order."""


def common_options() -> argparse.ArgumentParser:
    """Make the parent parser with the options that every command takes."""
    options = argparse.ArgumentParser(add_help=False)
    group = options.add_argument_group("options of every command")
    group.add_argument("--config", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="the configuration")
    group.add_argument(
        "--state-dir", type=Path, metavar="DIR", default=argparse.SUPPRESS, help="where the state is kept"
    )
    group.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object a line, nothing else"
    )
    group.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error came from"
    )
    return options


def adding_actions(parser: argparse.ArgumentParser, **defaults: Any) -> Callable[[str, str], argparse.ArgumentParser]:
    """Let a command have commands of its own; return what adds one, by name and what it is about, and its parser.

    ``defaults`` are what its options come to where they are not given.
    """
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)

    def action(name: str, about: str) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}.", parents=[common_options()]
        )
        made.set_defaults(**defaults)
        return made

    return action


def count_to(most: int) -> Callable[[str], int]:
    """Return what reads a number from 1 to ``most``."""

    def _count(text: str) -> int:
        count = int(text)
        if not 1 <= count <= most:
            raise argparse.ArgumentTypeError(f"choose a number from 1 to {most}")
        return count

    return _count


def say_line(text: str) -> None:
    """Print a line of results on stdout."""
    sys.stdout.write(text + "\n")


def say_json(value: Any) -> None:
    """Print one JSON object as a line on stdout, at once: whoever reads may be waiting."""
    from pydantic_core import to_jsonable_python  # 0.05 s that a person's output does not need

    say_line(json.dumps(value, ensure_ascii=False, default=to_jsonable_python))
    sys.stdout.flush()
