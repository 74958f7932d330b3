"""Show what was said lately and why it went so, or erase it."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from roomtone.asking_store import Events, answered
from roomtone.commands import count_to, say_json, say_line
from roomtone.config import Settings
from roomtone.core.dialog import Message, Role, Session, Source, Turn
from roomtone.core.errors import UsageError
from roomtone.history import LARGEST, SHOWN, answer, moment
from roomtone.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to show, or what is to be erased."""
    parser.add_argument(
        "--limit", type=count_to(LARGEST), default=20, metavar="N", help="show the last N turns or sessions (20)"
    )
    parser.add_argument("--session", metavar="ID", help="only this session; the beginning of its id is enough")
    parser.add_argument("--sessions", action="store_true", help="list the sessions")
    parser.add_argument(
        "--turn", type=int, metavar="N", help="one turn of the last session, or of --session, in full"
    )
    parser.add_argument("--node", metavar="ID", help="a message: how it stands, and all it follows from")
    parser.add_argument("--erase", action="store_true", help="forget what was said; timers, lists and memories stay")
    parser.add_argument("--since", metavar="WHEN", help="erase only since then: 90m (ago), 2d, 18:00, 2026-11-21")
    parser.add_argument("--yes", action="store_true", help="erase without asking")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Ask the daemon, or open the store where none runs; print a few lines a turn, or a JSON object."""
    if args.since is not None and not args.erase:
        raise UsageError("--since goes with --erase: roomtone history --erase --since 1h")
    since = moment(args.since, datetime.now(settings.zone)) if args.since is not None else None
    if args.erase and not args.yes and not _confirmed(since):
        say_line("Nothing was erased.")
        return 1
    request = {
        "command": "history",
        **{key: getattr(args, key) for key in ("limit", "session", "sessions", "turn", "node", "erase")},
        "since": since.isoformat() if since is not None else None,
    }
    *events, _ = asyncio.run(_ask(request, settings.state_dir, named=args.state_dir is not None))
    if args.json:
        for event in events:
            say_json(event.get("turn", event))
    elif args.erase:
        say_line(f"Everything that was said{f' since {since:%Y-%m-%d %H:%M}' if since else ''} is erased.")
    else:
        _show(events, settings.zone)
    return 0


def _confirmed(since: datetime | None) -> bool:
    if not sys.stdin.isatty():
        raise UsageError("--erase asks first, and there is nobody to ask; add --yes")
    what = f" since {since:%Y-%m-%d %H:%M}" if since else ""
    sys.stderr.write(f"Forget everything that was said in this house{what}? Type yes: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() == "yes"


async def _ask(request: dict[str, Any], state_dir: Path, *, named: bool) -> Events:
    async def here(store: Store) -> Events:
        return [message async for message in answer(request, store)]

    return await answered(request, state_dir, here, named=named)


def _show(events: list[dict[str, Any]], zone: ZoneInfo) -> None:
    if not events:
        say_line("Nothing was said yet.")
    session = ""
    for event in events:
        if "turn" in event:
            session = _show_turn(Turn.model_validate(event["turn"]), session, zone)
        elif "session" in event:
            _show_session(Session.model_validate(event["session"]), event, zone)
        elif "move" in event:
            _show_move(event["move"], zone)
        elif "node" in event:
            say_line(event["summary"])
        else:
            _show_message(Message.model_validate(event.get("message") or event["path"]), zone)


def _show_turn(turn: Turn, session: str, zone: ZoneInfo) -> str:
    at = turn.at.astimezone(zone)
    if turn.session != session:
        say_line(f"{at:%Y-%m-%d} in {turn.room}, session {turn.session[:SHOWN]}")
    unheard = "(nothing understood)" if turn.source is Source.VOICE else "(nobody asked)"
    say_line(f"  {at:%H:%M:%S}  {turn.heard or unheard}")
    said = turn.spoken if turn.spoken == turn.said else f"{turn.spoken} [...]".strip()
    say_line(f"            {said or '(nothing said)'}")
    say_line(f"            {_why(turn)}")
    return turn.session


def _show_session(session: Session, event: dict[str, Any], zone: ZoneInfo) -> None:
    last = datetime.fromisoformat(event["last_at"]).astimezone(zone)
    until = f"ended {session.ended.astimezone(zone):%H:%M}" if session.ended else f"last spoken in {last:%H:%M}"
    started = f"{session.started.astimezone(zone):%Y-%m-%d %H:%M}"
    say_line(f"{session.id[:SHOWN]}  {started}  {session.room}, {session.persona}, {event['turns']} turns, {until}")


def _show_move(move: dict[str, Any], zone: ZoneInfo) -> None:
    at = datetime.fromisoformat(move["at"]).astimezone(zone)
    why = f" ({move['why']})" if move["why"] else ""
    say_line(f"  {at:%H:%M:%S}  went from {move['source']} to {move['target']}{why}")


def _show_message(message: Message, zone: ZoneInfo) -> None:
    who = str(message.data.get("step") or {Role.PERSON: "person", Role.TOOL: "tool"}.get(message.role, "Roomtone"))
    say_line(f"  {message.id[:SHOWN]}  {message.at.astimezone(zone):%H:%M:%S}  {who:8}  {message.text}")


def _why(turn: Turn) -> str:
    by = turn.intent or turn.answered_by
    waited = turn.latency_ms.first_sound
    parts = [f"{turn.source} to {turn.persona}", by, turn.ended, f"{waited:.0f} ms" if waited is not None else ""]
    if turn.error is not None:
        parts.append(f"{turn.error.code}: {turn.error.message}")
    return ", ".join(part for part in parts if part)
