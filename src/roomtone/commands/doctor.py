"""Look at the whole room: configuration, engines, models, devices with live levels, store, clock, machine.

Each finding comes with the command that mends it. Nothing is changed. Exit code 1 if the daemon could not work.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from roomtone.commands import say_json
from roomtone.config import Settings
from roomtone.doctor import Finding, examine

MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing of its own."""
    del parser


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print each finding as it comes, a line or a JSON object each."""
    show = _json if args.json else _printer()
    return asyncio.run(_examine(settings, args, show))


async def _examine(settings: Settings, args: argparse.Namespace, show: Callable[[Finding], None]) -> int:
    failed = False
    async for finding in examine(settings, args.mistakes, named=args.state_dir is not None):
        show(finding)
        failed = failed or finding.level == "fail"
    return 1 if failed else 0


def _json(finding: Finding) -> None:
    say_json(asdict(finding))


def _printer() -> Callable[[Finding], None]:
    """Return what prints a finding for a person, in columns."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False, soft_wrap=False)

    def show(finding: Finding) -> None:
        row: Any = Table.grid(padding=(0, 2))
        row.add_column(width=4)
        row.add_column(width=13)
        row.add_column(overflow="fold")
        mend = f"\n[bold]{escape(finding.mend)}[/]" if finding.mend else ""
        row.add_row(MARKS[finding.level], finding.subject, escape(finding.said) + mend)
        console.print(row)

    return show
