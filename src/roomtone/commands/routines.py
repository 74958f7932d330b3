"""Routines of the household: list, check and run them, and see what became of their steps."""

from __future__ import annotations

import argparse
import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from roomtone.app import persona_library
from roomtone.asking_store import Events, answered
from roomtone.commands import adding_actions, count_to, say_json, say_line
from roomtone.config import Settings
from roomtone.core.errors import UsageError
from roomtone.minds import routines_of
from roomtone.routines.answers import LARGEST, SHOWN, answer, house_of, mistakes_of, wanted
from roomtone.routines.runs import close_cut_off
from roomtone.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do, and with which routine or run."""
    action = adding_actions(parser, routine=None, run_id=None, limit=20)
    action("list", "which there are, what starts them, and which are broken")
    check = action("check", "every mistake, a line each; exit code 1 where there is one")
    check.add_argument("routine", metavar="NAME|FILE", nargs="?", help="without one: all")
    action("run", "run one now, aloud where there is a loudspeaker").add_argument("routine", metavar="NAME")
    status = action("status", "the last runs, or one with all its steps")
    status.add_argument("run_id", metavar="RUN|NAME", nargs="?", help="a run's id, or a routine: its last run")
    status.add_argument("--limit", type=count_to(LARGEST), metavar="N", help="the last N runs (20)")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Ask the daemon, or look for oneself where none runs; print lines for a person, or JSON objects."""
    named = args.state_dir is not None
    if args.action == "run":
        return _run(args, settings, named=named)
    if args.action == "check" and args.routine is not None and _is_file(args.routine):
        events = _check_file(Path(args.routine), settings)
    else:
        request = {"command": "routines", "do": args.action, "routine": args.routine}
        request |= {"run": args.run_id, "limit": args.limit}
        *events, _ = asyncio.run(_ask(request, settings, named=named))
    if args.json:
        for event in events:
            say_json(event)
    else:
        _SHOWS[args.action](events, settings.zone)
    return 1 if args.action == "check" and events else 0


def _run(args: argparse.Namespace, settings: Settings, *, named: bool) -> int:
    from roomtone.asking import run_routine
    from roomtone.commands.ask import show

    name = wanted({"routine": args.routine}, routines_of(settings, settings.state_dir))
    return show(run_routine(settings, name, named=named), as_json=args.json)


def _is_file(text: str) -> bool:
    return "/" in text or text.endswith((".yaml", ".yml"))


def _check_file(file: Path, settings: Settings) -> list[dict[str, Any]]:
    """Check a file wherever it is, as if it stood among the household's routines."""
    if not file.is_file():
        raise UsageError(f"there is no file {file}")

    async def nothing(*_: Any) -> list[Any]:
        return []

    routines, personas = routines_of(settings, settings.state_dir), persona_library(settings, settings.state_dir)
    house = house_of(settings, routines, personas.ids(), nothing)
    return [{"mistake": mistake, "routine": file.stem} for mistake in mistakes_of(file, house)]


async def _ask(request: dict[str, Any], settings: Settings, *, named: bool) -> Events:
    async def here(store: Store) -> Events:
        await close_cut_off(store)
        state_dir = settings.state_dir
        routines, personas = routines_of(settings, state_dir), persona_library(settings, state_dir)
        house = house_of(settings, routines, personas.ids(), store.read)
        return [message async for message in answer(request, house)]

    return await answered(request, settings.state_dir, here, named=named)


# ------------------------------------------------------------------------------------- for a person


def _show_list(events: list[dict[str, Any]], _: ZoneInfo) -> None:
    if not events:
        say_line("There are no routines.")
    for routine in (event["routine"] for event in events):
        steps = f"{routine['steps']} step{'s' if routine['steps'] != 1 else ''}"
        told = f", told by {routine['persona']}" if routine["persona"] else ""
        about = f": {routine['description']}" if routine["description"] else ""
        say_line(f"{routine['name']}  ({routine['from']}, {steps}{told}){about}")
        phrases = [f'"{phrase}"' for phrase in routine["phrases"]]
        if started := [*phrases, *routine["started_by"]]:
            say_line(f"    started by {', '.join(started)}")
        if routine["broken"]:
            say_line(f"    broken: {routine['broken']}")


def _show_check(events: list[dict[str, Any]], _: ZoneInfo) -> None:
    for event in events:
        say_line(event["mistake"])
    if not events:
        say_line("All is well.")


def _show_status(events: list[dict[str, Any]], zone: ZoneInfo) -> None:
    if not events:
        say_line("No routine was run yet.")
    for event in events:
        run, steps = event["run"], event.get("steps", {})
        begun = datetime.fromisoformat(run["at"]).astimezone(zone)
        say_line(f"{run['id'][:SHOWN]}  {begun:%Y-%m-%d %H:%M:%S}  {run['routine']}, {run['status']}")
        for id_, step in steps.items():
            took = f"{step['took_s']:.1f} s" if step["took_s"] >= 0.05 else ""
            node = f"node {step['node'][:SHOWN]}" if step["node"] else ""
            told = [part for part in (step["status"], took, node, step["error"]) if part]
            say_line(f"  {id_:<16}  {', '.join(told)}")


_SHOWS = {"list": _show_list, "check": _show_check, "status": _show_status}
