"""Tell the running daemon that something has happened: it does what the configuration says of that event.

An event is a name under "events" in the configuration, with what is to be said, asked or switched to.
"""

from __future__ import annotations

import argparse
import asyncio

from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.control import ask_daemon, find_daemon
from roomtone.core.errors import DaemonGone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the event's name."""
    parser.add_argument("name", metavar="NAME", help="which event")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Tell the daemon; raises DaemonGone where none runs, for then nobody is there to do anything."""
    result = asyncio.run(_told(settings, args.name, named=args.state_dir is not None))
    say_json({"event": args.name, "result": result}) if args.json else say_line(result)
    return 0


async def _told(settings: Settings, name: str, *, named: bool) -> str:
    daemon = await find_daemon(settings.state_dir, named=named)
    if daemon is None:
        raise DaemonGone("no daemon runs here, so nobody can be told; start it: roomtone run")
    async for message in ask_daemon(daemon, {"command": "event", "name": name}):
        if "result" in message:
            return str(message["result"])
    raise DaemonGone("the daemon gave no answer")
