"""Print the effective configuration: defaults, file and variables together, secrets masked."""

from __future__ import annotations

import argparse
import json

from roomtone.commands import say_json, say_line
from roomtone.config import Settings, flat, masked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take no arguments of its own."""


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Print one ``key: value`` a line, the value as YAML, or one JSON object."""
    if args.json:
        say_json(masked(settings))
        return 0
    for key, value in flat(settings):
        say_line(f"{key}: {value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    return 0
