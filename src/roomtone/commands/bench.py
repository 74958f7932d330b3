"""Measure the numbers Roomtone is held to: one line a figure, with its goal.

Speech is synthesised unless --recordings names a folder of real ones with a manifest.csv (columns file, kind,
transcript); then waits and cut-offs are measured on those. --compare names what an earlier run printed with --json:
each figure then stands beside the one before. --models names the folder of the models that Whisper, Piper and
llama.cpp are measured with (the state folder's). All of it takes some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from roomtone.bench import (
    Figure,
    arbitration,
    barge_in,
    context,
    endpointing,
    failover,
    hands,
    house,
    llama,
    local_models,
    memory,
    minds,
    personas,
    process,
    start,
    turns,
    understanding,
    wake,
)
from roomtone.bench.comparison import Change, change, earlier
from roomtone.bench.people import recorded, synthesised
from roomtone.clock import run_skipping
from roomtone.commands import say_json, say_line
from roomtone.config import Settings

SUBJECTS = (
    "turns",
    "endpointing",
    "understanding",
    "barge_in",
    "models",
    "llama",
    "personas",
    "context",
    "failover",
    "minds",
    "hands",
    "wake",
    "memory",
    "house",
    "arbitration",
    "process",
    "start",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to measure, and on what."""
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="only this subject (may be repeated)")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="an earlier run, as --json printed it")
    parser.add_argument("--models", type=Path, metavar="DIR", help="models for Whisper, Piper and llama.cpp")
    parser.add_argument("--recordings", type=Path, metavar="DIR", help="a folder of recordings with a manifest.csv")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print each subject's figures as they are measured."""
    models: Path = args.models or settings.state_dir / "models"  # all else is measured with the defaults
    recordings: Path | None = args.recordings
    subjects: dict[str, Callable[[], list[Figure]]] = {
        "turns": lambda: run_skipping(_turns(recordings)),
        "endpointing": lambda: endpointing.measure(recordings) if recordings else [],
        "understanding": lambda: _real(understanding.measure(recordings)),
        "barge_in": lambda: [
            *_real(barge_in.measure()),
            *run_skipping(barge_in.understood(), counts_work=False),
        ],
        "models": lambda: run_skipping(local_models.measure(models)),
        "llama": lambda: _real(llama.measure(models)),
        "personas": lambda: _real(personas.measure()),
        "context": lambda: _real(context.measure()),
        "failover": lambda: _real(failover.measure()),
        "minds": lambda: [*run_skipping(_minds(recordings)), *_real(minds.beside())],
        "hands": lambda: _real(hands.measure()),
        "wake": lambda: _real(wake.measure(recordings)) if recordings else [],
        "memory": lambda: _real(memory.measure()),
        "house": lambda: _real(house.measure()),
        "arbitration": lambda: _real(arbitration.measure()),
        "process": process.measure,
        "start": start.measure,
    }
    before = earlier(args.compare) if args.compare else None
    measured = []
    for subject in args.only or SUBJECTS:
        for figure in subjects[subject]():
            measured.append(figure)
            _print(figure, before, as_json=bool(args.json))
    if before is not None and not args.json:
        _show(measured, before)
    return 0


async def _turns(recordings: Path | None) -> list[Figure]:
    return await turns.measure(recorded(recordings) if recordings else await synthesised())


async def _minds(recordings: Path | None) -> list[Figure]:
    return await minds.overhead(recorded(recordings) if recordings else await synthesised())


def _real(measuring: Awaitable[list[Figure]]) -> list[Figure]:
    async def main() -> list[Figure]:
        return await measuring

    return asyncio.run(main())


def _print(figure: Figure, before: Mapping[str, Figure] | None, *, as_json: bool) -> None:
    if as_json:
        say_json(asdict(figure) if before is None else {**asdict(figure), **_compared(figure, before)})
    elif before is None:
        say_line(f"{figure.name:28} {_text(figure.value):>10} {figure.unit:10} {figure.goal:>10}   n={figure.n}")


def _compared(figure: Figure, before: Mapping[str, Figure]) -> dict[str, Any]:
    old = before.get(figure.name)
    return {"before": old.value if old else None, "change": change(figure, before)}


def _show(measured: list[Figure], before: Mapping[str, Figure]) -> None:
    """Print a table of what changed, and say which figures only one of the two runs has."""
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "before", "now", "unit", "goal", "change")
    for column in table.columns[1:3]:
        column.justify = "right"
    colours = {Change.BETTER: "green", Change.WORSE: "red"}
    for figure in measured:
        old, outcome = before.get(figure.name), change(figure, before)
        values = (_text(old.value if old else None), _text(figure.value))
        table.add_row(figure.name, *values, figure.unit, figure.goal, outcome, style=colours.get(outcome))
    Console(soft_wrap=False).print(table)
    gone = [name for name in before if name not in {figure.name for figure in measured}]
    if gone:
        say_line(f"Only the earlier run has: {', '.join(gone)}")


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
