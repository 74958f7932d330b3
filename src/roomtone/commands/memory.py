"""What the household told Roomtone to remember: list it, search it, add to it, forget it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any
from zoneinfo import ZoneInfo

from roomtone.commands import common_options, say_json, say_line
from roomtone.config import Settings
from roomtone.control import ask_daemon, find_daemon, state_lock
from roomtone.core.errors import UsageError
from roomtone.memories import open_embed, open_memory
from roomtone.memory_answers import LARGEST, SHOWN, answer
from roomtone.mind.memory import Fact, Level
from roomtone.store import FILE_NAME, open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do, and with which memories."""
    actions = parser.add_subparsers(metavar="ACTION", dest="action", required=True)

    def action(name: str, about: str) -> argparse.ArgumentParser:
        made = actions.add_parser(
            name, help=about, description=f"{about[0].upper()}{about[1:]}.", parents=[common_options()]
        )
        made.set_defaults(text=None, ids=[], all=False, yes=False, limit=20, days=None)
        return made

    listing = action("list", "what is remembered, the newest first")
    search = action("search", "what belongs to a text, the best first")
    search.add_argument("text", metavar="TEXT")
    for one in (listing, search):
        one.add_argument("--limit", type=_count, metavar="N", help="at most so many (20)")
        one.add_argument("--persona", metavar="ID", help="only what this persona may know; without: everything")
    add = action("add", "remember a text")
    add.add_argument("text", metavar="TEXT")
    add.add_argument("--persona", metavar="ID", help="for this persona alone; without: for everyone")
    add.add_argument("--days", type=float, metavar="N", help="forget it after so many days")
    forget = action("forget", "forget for good; without --all by id, four letters of which are enough")
    forget.add_argument("ids", metavar="ID", nargs="*")
    forget.add_argument("--all", action="store_true", help="everything, or all that --persona alone knows")
    forget.add_argument("--persona", metavar="ID")
    forget.add_argument("--yes", action="store_true", help="do not ask")


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= LARGEST:
        raise argparse.ArgumentTypeError(f"choose a number from 1 to {LARGEST}")
    return count


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Ask the daemon, or open the store where none runs; print a line a memory, or a JSON object."""
    if args.action == "forget":
        _check(args)
        if args.all and not args.yes and not _confirmed(args.persona):
            say_line("Nothing was forgotten.")
            return 1
    request = {
        "command": "memory",
        "do": args.action,
        **{key: getattr(args, key) for key in ("text", "persona", "ids", "all", "limit", "days")},
    }
    *events, _ = asyncio.run(_ask(request, settings, named=args.state_dir is not None))
    for event in events:
        if args.json:
            say_json(event)
        else:
            _show(event, settings.zone)
    if not events and not args.json:
        say_line("Nothing is remembered." if args.action == "list" else "There is nothing of that.")
    return 1 if any("unknown" in event for event in events) else 0


def _check(args: argparse.Namespace) -> None:
    if bool(args.ids) is args.all:
        raise UsageError("give ids as roomtone memory list shows them, or --all")
    if args.persona is not None and not args.all:
        raise UsageError("--persona goes with --all; an id says whose it is")


def _confirmed(persona: str | None) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("--all asks first, and there is nobody to ask; add --yes")
    sys.stderr.write(f"Forget everything that {persona or 'this house'} was told to remember? Type yes: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() == "yes"


async def _ask(request: dict[str, Any], settings: Settings, *, named: bool) -> list[dict[str, Any]]:
    daemon = await find_daemon(settings.state_dir, named=named)
    if daemon is not None:
        return [message async for message in ask_daemon(daemon, request)]
    state_dir = settings.state_dir
    async with state_lock(state_dir), open_store(state_dir / FILE_NAME) as store:
        if store.mended:
            sys.stderr.write(f"roomtone: {store.mended}\n")
        async with open_embed(settings) as embed, open_memory(settings, store, embed=embed) as memory:
            return [message async for message in answer(request, memory)]


def _show(event: dict[str, Any], zone: ZoneInfo) -> None:
    if "unknown" in event:
        sys.stderr.write(
            f"roomtone: '{event['unknown']}' is no memory, or the beginning of several; see: roomtone memory list\n"
        )
        return
    [(what, told)] = event.items()
    fact = Fact.model_validate(told)
    done = {"fact": "", "kept": "remembered: ", "forgotten": "forgotten: "}[what]
    level = "" if fact.level is Level.FACT else f", {fact.level}"
    until = f", until {fact.expires.astimezone(zone):%Y-%m-%d}" if fact.expires else ""
    text = " ".join(fact.text.split())
    whose = fact.persona or "everyone"
    say_line(f"{fact.id[:SHOWN]}  {fact.at.astimezone(zone):%Y-%m-%d}  {whose}{level}{until}  {done}{text}")
