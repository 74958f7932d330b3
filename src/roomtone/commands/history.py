"""Show what was said lately and why it went so, or erase it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

from roomtone.commands import say, say_json
from roomtone.config import Settings
from roomtone.control import ask_daemon, find_daemon, state_lock
from roomtone.core.dialog import Turn
from roomtone.core.errors import UsageError
from roomtone.history import LARGEST, answer
from roomtone.store import FILE_NAME, open_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take how much to show, or that all is to be erased."""
    parser.add_argument("--limit", type=_count, default=20, metavar="N", help="show the last N turns (20)")
    parser.add_argument("--session", metavar="ID", help="only the turns of this session")
    parser.add_argument("--erase", action="store_true", help="forget everything that was said; timers stay")
    parser.add_argument("--yes", action="store_true", help="erase without asking")


def _count(text: str) -> int:
    count = int(text)
    if not 1 <= count <= LARGEST:
        raise argparse.ArgumentTypeError(f"choose a number from 1 to {LARGEST}")
    return count


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Ask the daemon, or open the store where none runs; print a few lines a turn, or a JSON object."""
    if args.erase and not args.yes and not _confirmed():
        say("Nothing was erased.")
        return 1
    request = {"command": "history", "limit": args.limit, "session": args.session, "erase": args.erase}
    turns = asyncio.run(_ask(request, settings.state_dir, named=args.state_dir is not None))
    if args.json:
        for turn in turns:
            say_json(turn)
    elif args.erase:
        say("Everything that was said is erased.")
    else:
        _show([Turn.model_validate(turn) for turn in turns])
    return 0


def _confirmed() -> bool:
    if not sys.stdin.isatty():
        raise UsageError("--erase asks first, and there is nobody to ask; add --yes")
    sys.stderr.write("Forget everything that was said in this house? Type yes: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() == "yes"


async def _ask(request: dict[str, Any], state_dir: Path, *, named: bool) -> list[dict[str, Any]]:
    daemon = await find_daemon(state_dir, named=named)
    if daemon is not None:
        return [message["turn"] async for message in ask_daemon(daemon, request) if "turn" in message]
    async with state_lock(state_dir), open_store(state_dir / FILE_NAME) as store:
        if store.mended:
            sys.stderr.write(f"roomtone: {store.mended}\n")
        return [message["turn"] async for message in answer(request, store) if "turn" in message]


def _show(turns: list[Turn]) -> None:
    if not turns:
        say("Nothing was said yet.")
    session = ""
    for turn in turns:
        if turn.session != session:
            session = turn.session
            say(f"{turn.at.astimezone():%Y-%m-%d} in {turn.room}, session {session}")
        say(f"  {turn.at.astimezone():%H:%M:%S}  {turn.heard or '(nothing understood)'}")
        said = turn.spoken if turn.spoken == turn.said else f"{turn.spoken} [...]".strip()
        say(f"            {said or '(nothing said)'}")
        say(f"            {_why(turn)}")


def _why(turn: Turn) -> str:
    by = turn.intent or turn.answered_by
    waited = turn.latency_ms.first_sound
    parts = [f"{turn.source} to {turn.persona}", by, turn.ended, f"{waited:.0f} ms" if waited is not None else ""]
    if turn.error is not None:
        parts.append(f"{turn.error.code}: {turn.error.message}")
    return ", ".join(part for part in parts if part)
