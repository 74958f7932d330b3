"""The night's work: settle and look through the databases, read the models, keep a backup, forget what only grows.

What it came to is kept in maintenance.json in the state folder. What is wrong is said aloud once, by day.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from dataclasses import asdict, replace

from roomtone import config
from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.control import ask_daemon, find_daemon
from roomtone.core.errors import RoomtoneError
from roomtone.mind.phrases import Phrases
from roomtone.upkeep import maintenance
from roomtone.upkeep.maintenance import Line, Outcome


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take whether only what is due is to be done."""
    parser.add_argument(
        "--due",
        action="store_true",
        help="only what was not done in the last twelve hours",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Do the work, print a line for each thing, and let the room say what is wrong; 1 where anything is."""
    named = args.state_dir is not None
    os.nice(10)  # the voice comes first
    outcome = maintenance.read(settings.state_dir) if args.due else None
    if outcome is None or maintenance.is_due(outcome):
        outcome = maintenance.maintain(settings, config.find_file(args.config, os.environ))
        for line in outcome.lines:
            _show(line, as_json=args.json)
        if outcome.written_kb and not args.json:
            say_line(f"{outcome.written_kb} KB were written.")
    if outcome.untold and maintenance.may_be_told(settings):
        asyncio.run(_tell(outcome, settings, named=named))
    return 0 if outcome.ok else 1


def _show(line: Line, *, as_json: bool | None) -> None:
    if as_json:
        say_json(asdict(line))
    elif line.ok:
        say_line(f"{line.what}: {line.said}")
    else:
        sys.stderr.write(f"roomtone: {line.what}: {line.said}; {line.mend}\n")


async def _tell(outcome: Outcome, settings: Settings, *, named: bool) -> None:
    """Let the running room say what is wrong, and note that it has; what cannot be said now is said another day."""
    phrases = Phrases.load(settings.language)
    try:
        daemon = await find_daemon(settings.state_dir, named=named)
        if daemon is None:
            return
        text = " ".join(phrases.say(f"night_{what}") for what in outcome.untold if f"night_{what}" in phrases.texts)
        async for _ in ask_daemon(daemon, {"command": "say", "text": text or phrases.say("night_other")}):
            pass
    except RoomtoneError as error:
        sys.stderr.write(f"roomtone: nobody could be told: {error.message}\n")
        return
    maintenance.keep(settings.state_dir, replace(outcome, untold=()))
