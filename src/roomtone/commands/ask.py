"""Ask as if it had been heard; the answer is printed, and spoken where there is a loudspeaker."""

from __future__ import annotations

import argparse

from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.core.dialog import Ended, Turn


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the text, in one word or many."""
    parser.add_argument("text", nargs="+", help="what to ask")
    parser.add_argument("--session", metavar="ID", help="go on with this session; roomtone history --sessions lists")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Ask the running daemon, or open a room for this one question."""
    from roomtone.asking import ask

    turn = ask(settings, " ".join(args.text), verbatim=False, named=args.state_dir is not None, session=args.session)
    return show(turn, as_json=args.json)


def show(turn: Turn, *, as_json: bool) -> int:
    """Print what was said and return the exit code."""
    if as_json:
        say_json(turn)
    else:
        went = turn.ended is Ended.MOVED and not turn.said
        say_line("The conversation goes on in another room." if went else turn.said)
    return 1 if turn.ended is Ended.FAILED else 0
