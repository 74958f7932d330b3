"""Show what left this machine: when, to whom, how far that is, how much of what, why and in which turn.

With --costs: what language models were asked, by day and provider, and what that cost where the price is known.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from roomtone.asking_store import Events, answered
from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.core.errors import RoomtoneError
from roomtone.flow import Feed
from roomtone.history import SHOWN, moment
from roomtone.outbound import Sent, accounts, receipt
from roomtone.outbound.ledger import Ledger
from roomtone.store import Store

FAR = {"lan": "in the house", "any": "beyond the house"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take since when, and whether the costs are meant."""
    parser.add_argument(
        "--since", default="today", metavar="WHEN", help="today (this is the default), 90m, 7d, 18:00, 2026-11-21"
    )
    parser.add_argument("--costs", action="store_true", help="what language models took, by day and provider")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Ask the daemon, or read the store where none runs; print a line a call and the sums, or JSON objects."""
    now = datetime.now(settings.zone)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = midnight if args.since == "today" else moment(args.since, now)
    request = {"command": "costs" if args.costs else "receipt", "since": since.isoformat()}
    *events, _ = asyncio.run(_ask(request, settings, named=args.state_dir is not None))
    if args.json:
        for event in events:
            say_json(event.get("sent") or event.get("cost") or event)
        return 0
    if not events:
        what = "No language model was asked" if args.costs else "Nothing has left this machine"
        say_line(f"{what} since {since:%Y-%m-%d %H:%M}.")
    for line in _costs(events) if args.costs else _receipt(events, settings):
        say_line(line)
    return 0


def keep(sent: Sent, settings: Settings, *, named: bool) -> None:
    """Keep a call that this command made, with the daemon or without it; ``named`` as for ``find_daemon``.

    Where that cannot be done it is told in a line: what was called for is done all the same.
    """
    call = {**asdict(sent), "at": sent.at.isoformat()}
    try:
        asyncio.run(_ask({"command": "receipt", "note": call}, settings, named=named))
    except RoomtoneError as error:
        sys.stderr.write(f"roomtone: this call to {sent.host} is not on the receipt: {error.message}\n")


async def _ask(request: dict[str, Any], settings: Settings, *, named: bool) -> Events:
    async def here(store: Store) -> Events:
        ledger = Ledger(store)
        told = [message async for message in _answer(request, settings, ledger)]
        await ledger.flush()
        return told

    return await answered(request, settings.state_dir, here, named=named)


def _answer(request: dict[str, Any], settings: Settings, ledger: Ledger) -> AsyncIterator[dict[str, Any]]:
    if request["command"] == "costs":
        return accounts.answer(request, ledger, settings.zone)
    return receipt.answer(request, receipt.Receipts(ledger, Feed()))


def _receipt(events: list[dict[str, Any]], settings: Settings) -> list[str]:
    from rich.filesize import decimal

    lines, day = [], ""
    for sent in (event["sent"] for event in events if "sent" in event):
        at = _at(sent["at"]).astimezone(settings.zone)
        if f"{at:%Y-%m-%d}" != day:
            day = f"{at:%Y-%m-%d}"
            lines.append(day)
        what = f"{decimal(sent['bytes'])} of {sent['kind']}"
        where = f"turn {sent['turn']} of session {sent['session'][:SHOWN]}" if sent["turn"] else ""
        parts = [sent["host"], FAR[sent["reach"]], what, sent["why"], sent["persona"], where]
        lines.append(f"  {at:%H:%M:%S}  {', '.join(filter(None, parts))}")
    for total in (event["total"] for event in events if "total" in event):
        kinds = [f"{decimal(total[kind])} of {kind}" for kind in ("text", "audio") if total[kind]]
        calls = "1 call" if total["calls"] == 1 else f"{total['calls']} calls"
        lines.append(f"{total['host']}, {FAR[total['reach']]}: {', '.join([calls, *kinds])}")
    return lines


def _costs(events: list[dict[str, Any]]) -> list[str]:
    lines = []
    for cost in (event["cost"] for event in events):
        calls = "1 call" if cost["calls"] == 1 else f"{cost['calls']} calls"
        failed = f" ({cost['failed']} not answered)" if cost["failed"] else ""
        tokens = f"{cost['read']} tokens read, {cost['cached']} of them cached, {cost['written']} written"
        price = f", ${cost['cost']:.4f}" if cost["cost"] else ""
        lines.append(f"{cost['day']}  {cost['provider']}: {calls}{failed}, {tokens}{price}")
    return lines


def _at(at: datetime | str) -> datetime:
    """Return a time: it comes from a daemon as text."""
    return at if isinstance(at, datetime) else datetime.fromisoformat(at)
