"""Speak a text; it is printed too, and only printed where there is no loudspeaker."""

from __future__ import annotations

import argparse

from roomtone.commands.ask import show
from roomtone.config import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the text, in one word or many."""
    parser.add_argument("text", nargs="+", help="what to say")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Let the running daemon say it, or open a room for it."""
    from roomtone.asking import ask

    turn = ask(settings, " ".join(args.text), verbatim=True, named=args.state_dir is not None)
    return show(turn, as_json=args.json)
