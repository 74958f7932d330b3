"""What the household told Roomtone to remember: list it, search it, add to it, forget it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any
from zoneinfo import ZoneInfo

from roomtone.asking_store import Events, answered
from roomtone.commands import adding_actions, count_to, say_json, say_line
from roomtone.config import Settings
from roomtone.core.errors import UsageError
from roomtone.memories import open_embed, open_memory
from roomtone.memories.answers import LARGEST, SHOWN, answer
from roomtone.mind.memory import Fact, Level
from roomtone.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do, and with which memories."""
    action = adding_actions(parser, text=None, ids=[], all=False, yes=False, limit=20, days=None)
    listing = action("list", "what is remembered, the newest first")
    search = action("search", "what belongs to a text, the best first")
    search.add_argument("text", metavar="TEXT")
    for one in (listing, search):
        one.add_argument("--limit", type=count_to(LARGEST), metavar="N", help="at most so many (20)")
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


async def _ask(request: dict[str, Any], settings: Settings, *, named: bool) -> Events:
    async def here(store: Store) -> Events:
        async with open_embed(settings) as embed, open_memory(settings, store, embed=embed) as memory:
            return [message async for message in answer(request, memory)]

    return await answered(request, settings.state_dir, here, named=named)


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
