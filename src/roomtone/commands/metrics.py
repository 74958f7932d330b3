"""Print what the running daemon has counted, and how its machine is, in Prometheus' text format.

With --json each sample is an object: name, labels, value. Needs the extra "metrics".
"""

from __future__ import annotations

import argparse
import asyncio

from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.control import ask_daemon, find_daemon
from roomtone.core.errors import DaemonGone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take nothing of its own."""
    del parser


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Ask the daemon and print; raises DaemonGone where none runs, for then there is nothing to tell."""
    page = asyncio.run(_page(settings, named=args.state_dir is not None))
    if args.json:
        from prometheus_client.parser import text_string_to_metric_families

        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                say_json({"name": sample.name, "labels": sample.labels, "value": sample.value})
    else:
        say_line(page.rstrip("\n"))
    return 0


async def _page(settings: Settings, *, named: bool) -> str:
    daemon = await find_daemon(settings.state_dir, named=named)
    if daemon is None:
        raise DaemonGone("no daemon runs here, so nothing is counted; start it: roomtone run")
    async for message in ask_daemon(daemon, {"command": "metrics"}):
        if "result" in message:
            return str(message["result"])
    raise DaemonGone("the daemon gave no answer")
