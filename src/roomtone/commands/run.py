"""The daemon: listens, answers, and goes on until it is told to stop (SIGTERM, Ctrl-C).

SIGUSR1, or Enter on its terminal, makes it listen.
"""

from __future__ import annotations

import argparse
import asyncio

from roomtone import daemon, logs
from roomtone.app import Room
from roomtone.commands import say, say_json
from roomtone.config import Settings
from roomtone.timeline import lines


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing of its own."""
    del parser


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run the daemon; print a line for each thing that happens, or with --json an object for each turn."""
    logs.set_up(settings.log)
    asyncio.run(daemon.serve(settings, args.mistakes, _print_turns if args.json else _print_lines))
    return 0


async def _print_turns(room: Room) -> None:
    with room.feed.watch("turn.ended") as events:
        async for event in events:
            say_json(event.data.turn)


async def _print_lines(room: Room) -> None:
    with room.feed.watch() as events:
        async for event in events:
            for line in lines(event):
                say(line)
