"""Take in roomtone.yaml from the SD card: settings, and secrets, which are wiped from it. Done at each boot."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.first_boot import Outcome, Places, take_in


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take where the card's file is, and where its secrets go."""
    plain = Places()
    parser.add_argument(
        "--card", type=Path, metavar="FILE", help=f"the card's file (default: {' or '.join(map(str, plain.cards))})"
    )
    parser.add_argument(
        "--credentials", type=Path, metavar="DIR", default=plain.credentials, help="(default: %(default)s)"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Take the card in and say what came of it; 2 where it is wrong, and nothing has changed then."""
    del settings
    plain = Places()
    places = Places(
        cards=(args.card,) if args.card else plain.cards,
        config=args.config or plain.config,
        credentials=args.credentials,
        state_dir=args.state_dir or plain.state_dir,
    )
    outcome = take_in(places)
    if args.json:
        say_json(dataclasses.asdict(outcome) if outcome else {"outcome": "nothing"})
    elif outcome is None:
        say_line("There is nothing new on the card.")
    else:
        _show(outcome, places)
    return 2 if outcome is not None and outcome.outcome == "refused" else 0


def _show(outcome: Outcome, places: Places) -> None:
    for mistake in outcome.mistakes:
        where = mistake["where"]
        file = outcome.file if where.startswith("line") or not where else ""
        parts = [file, where, mistake["key"], f"{mistake['wrong']}; {mistake['mend']}"]
        sys.stderr.write(f"roomtone: {': '.join(part for part in parts if part)}\n")
    for trouble in outcome.troubles:
        sys.stderr.write(f"roomtone: {trouble}\n")
    if outcome.secrets_left:
        sys.stderr.write(f"roomtone: {outcome.file}: the secrets are still on the card; take them out by hand\n")
    if outcome.outcome == "ready":
        say_line(f"{outcome.file or 'No card'} is taken in; the configuration is {places.config}.")
