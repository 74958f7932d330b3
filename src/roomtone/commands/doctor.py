"""Look at the whole room: configuration, engines, models, devices with live levels, store, clock, machine.

Each finding comes with the command that mends it, the worst first. Nothing is changed; a chirp is played to hear
whether the loudspeaker reaches the microphone, not in quiet hours. Exit code 1 if the daemon could not work, and with
--only chirp if it was not heard.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roomtone.commands import say_json
from roomtone.config import Settings
from roomtone.core.errors import RoomtoneError
from roomtone.doctor import SUBJECTS, Finding, Listening, Look, examine
from roomtone.doctor.findings import summary, worst_first
from roomtone.doctor.sound import Meter, unwatched

MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}

METER_DB = 60.0
"""Decibels below full scale at which the meter's bar begins; each of its 30 marks is two."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to look at, and what to do with what is found."""
    parser.add_argument(
        "--only",
        action="append",
        choices=SUBJECTS,
        metavar="SUBJECT",
        default=[],
        help=f"look at this alone; may be given more than once: {', '.join(SUBJECTS)}",
    )
    parser.add_argument("--chirp", action="store_true", help="play the chirp in quiet hours too, softly")
    parser.add_argument("--say", action="store_true", help="say aloud what is wrong")
    parser.add_argument(
        "--bundle",
        type=Path,
        metavar="FILE",
        help="write for whoever helps what they need to know, no secrets and no texts",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print each finding, a line or a JSON object each."""
    only = frozenset(args.only)
    with _metering(shown=not args.json and sys.stderr.isatty()) as meter:
        look = Look(only, Listening(even_quiet=args.chirp or "chirp" in only, meter=meter))
        found = worst_first(asyncio.run(_examine(settings, args, look)))
    if args.json:
        for finding in found:
            say_json(asdict(finding))
    else:
        _print(found)
    if args.say:
        _say(found, settings, named=args.state_dir is not None)
    if args.bundle is not None:
        _bundle(args.bundle, found, settings, named=args.state_dir is not None)
    unheard = "chirp" in only and not any((each.subject, each.level) == ("chirp", "ok") for each in found)
    return 1 if unheard or any(each.level == "fail" for each in found) else 0


async def _examine(settings: Settings, args: argparse.Namespace, look: Look) -> list[Finding]:
    found = examine(settings, args.mistakes, named=args.state_dir is not None, look=look)
    return [finding async for finding in found]


def _say(found: Sequence[Finding], settings: Settings, *, named: bool) -> None:
    """Say a summary, through the running daemon or with a voice of its own; where that fails, say why in writing."""
    from roomtone.asking import ask

    try:
        ask(settings, summary(found, settings.language), verbatim=True, named=named)
    except RoomtoneError as error:
        sys.stderr.write(f"roomtone: it cannot be said: {error.message}\n")


def _bundle(file: Path, found: Sequence[Finding], settings: Settings, *, named: bool) -> None:
    from roomtone.support_bundle import gather, write

    write(file, asyncio.run(gather(settings, found, named=named)))
    sys.stderr.write(
        f"roomtone: written to {file}; look through it before you give it away: tar -xzOf {file} | less\n"
    )


@contextmanager
def _metering(*, shown: bool) -> Iterator[Meter]:
    """Give what shows, on a terminal, what is being looked at and how loud the microphone hears the room."""
    if not shown:
        yield unwatched
        return
    from rich.console import Console

    with Console(stderr=True).status("looking") as status:

        def meter(what: str, dbfs: float | None) -> None:
            status.update(f"{what}  {bar(dbfs)}" if dbfs is not None else what)

        yield meter


def bar(dbfs: float) -> str:
    """Draw a level: thirty marks from -60 dBFS to full scale."""
    marks = round(min(max(0.0, METER_DB + dbfs), METER_DB) / 2)
    return f"{'|' * marks}{'.' * (30 - marks)} {dbfs:4.0f} dBFS"


def _print(found: Sequence[Finding]) -> None:
    """Print findings for a person, in columns."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=False)
    for finding in found:
        row: Any = Table.grid(padding=(0, 2))
        row.add_column(width=4)
        row.add_column(width=13)
        row.add_column(overflow="fold")
        mend = f"\n[bold]{escape(finding.mend)}[/]" if finding.mend else ""
        row.add_row(MARKS[finding.level], finding.subject, escape(finding.said) + mend)
        console.print(row)
