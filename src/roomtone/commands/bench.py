"""Measure the numbers Roomtone is held to: one line a figure, with its goal.

Speech is synthesised unless --recordings names a folder of real ones with a manifest.csv (columns file, kind,
transcript); then waits and cut-offs are measured on those. All of it takes some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

from roomtone.bench import Figure, barge_in, endpointing, process, turns, understanding
from roomtone.bench.people import recorded, synthesised
from roomtone.clock import run_skipping
from roomtone.commands import say, say_json
from roomtone.config import Settings

SUBJECTS = ("turns", "endpointing", "understanding", "barge_in", "process")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to measure, and on what."""
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="only this subject (may be repeated)")
    parser.add_argument("--recordings", type=Path, metavar="DIR", help="a folder of recordings with a manifest.csv")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print each subject's figures as they are measured."""
    del settings  # figures are those of the defaults
    recordings: Path | None = args.recordings
    subjects: dict[str, Callable[[], list[Figure]]] = {
        "turns": lambda: run_skipping(_turns(recordings)),
        "endpointing": lambda: endpointing.measure(recordings) if recordings else [],
        "understanding": lambda: _real(understanding.measure(recordings)),
        "barge_in": lambda: [
            *_real(barge_in.measure()),
            *run_skipping(barge_in.understood(), counts_work=False),
        ],
        "process": process.measure,
    }
    for subject in args.only or SUBJECTS:
        for figure in subjects[subject]():
            _print(figure, as_json=bool(args.json))
    return 0


async def _turns(recordings: Path | None) -> list[Figure]:
    return await turns.measure(recorded(recordings) if recordings else await synthesised())


def _real(measuring: Awaitable[list[Figure]]) -> list[Figure]:
    async def main() -> list[Figure]:
        return await measuring

    return asyncio.run(main())


def _print(figure: Figure, *, as_json: bool) -> None:
    if as_json:
        say_json(asdict(figure))
    else:
        value = "-" if figure.value is None else f"{figure.value:g}"
        say(f"{figure.name:28} {value:>10} {figure.unit:10} {figure.goal:>10}   n={figure.n}")
