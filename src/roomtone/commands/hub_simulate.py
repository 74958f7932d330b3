"""``roomtone hub simulate``: a house of many devices on a broker and a hub of its own, on this machine alone."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from dataclasses import asdict

from roomtone.commands import count_to, say_json, say_line
from roomtone.settings import Settings

MOST_DEVICES, MOST_SECONDS = 2000, 3600


def add_actions(action: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the action."""
    parser = action("simulate", "load a broker and a hub of its own, on this machine alone, with many devices")
    parser.add_argument("--devices", type=count_to(MOST_DEVICES), default=50, metavar="N", help="how many (50)")
    parser.add_argument("--seconds", type=count_to(MOST_SECONDS), default=20, metavar="S", help="for how long (20)")


def run(args: argparse.Namespace, _: Settings) -> int:
    """Simulate the house and print what it cost; 1 where a handoff did not come about."""
    from roomtone.bench.simulated_house import simulate  # brings the link, the broker and what measures them

    load = asyncio.run(simulate(args.devices, args.seconds))
    for figure in load.figures():
        if args.json:
            say_json(asdict(figure))
        else:
            say_line(f"{figure.name:34} {figure.value!s:>10} {figure.unit:10} {figure.goal:>10}   n={figure.n}")
    return 1 if load.refused else 0
