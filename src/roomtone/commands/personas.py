"""Who the room can speak as: see, check and choose personas, and go back to an earlier version of one."""

from __future__ import annotations

import argparse
import asyncio
from datetime import datetime
from pathlib import Path
from typing import Any

from roomtone.app import persona_library
from roomtone.asking_store import Events, answered
from roomtone.clock import utc_now
from roomtone.commands import adding_actions, say_json, say_line
from roomtone.config import Settings
from roomtone.core.dialog import Source
from roomtone.core.errors import PersonaNotFound
from roomtone.mind.prompt import Surroundings
from roomtone.mind.sentences import Skills
from roomtone.personas import Library
from roomtone.personas import versions as persona_versions
from roomtone.personas.answers import Household, answer, mistakes_of
from roomtone.personas.versions import SHOWN
from roomtone.store import Store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do, and with whom."""
    action = adding_actions(parser, content=None, limit=20, prompt=False)
    action("list", "who there is, who speaks, and what is broken").set_defaults(persona=None)
    show = action("show", "all that a persona's folder says")
    show.add_argument("persona", metavar="ID")
    show.add_argument("--prompt", action="store_true", help="what a language model would be told now")
    check = action("check", "every mistake, a line each; exit code 1 where there is one")
    check.add_argument("persona", metavar="ID|FOLDER", nargs="?", help="without one: everybody")
    action("use", "speak as another persona").add_argument("persona", metavar="ID")
    history = action("history", "which versions spoke, and who switched to it when and why")
    history.add_argument("persona", metavar="ID")
    history.add_argument("--limit", type=int, metavar="N", help="the last N switches (20)")
    back = action("rollback", "put an earlier version back; what is there now is kept as one")
    back.add_argument("persona", metavar="ID")
    back.add_argument("content", metavar="HASH", nargs="?", help="which; without one, the one that spoke before")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Ask the daemon, or look for oneself where none runs; print lines for a person, or JSON objects."""
    if args.action == "check" and args.persona is not None and _is_folder(args.persona):
        events = _check_folder(Path(args.persona), settings)
    else:
        request = {
            "command": "personas",
            "do": args.action,
            **{key: getattr(args, key) for key in ("persona", "prompt", "limit", "content")},
        }
        *events, _ = asyncio.run(_ask(request, settings, named=args.state_dir is not None))
    if args.json:
        for event in events:
            say_json(event)
    else:
        SHOWS[args.action](events)
    return 1 if args.action == "check" and events else 0


def _is_folder(text: str) -> bool:
    return "/" in text or text in (".", "..")


def _check_folder(folder: Path, settings: Settings) -> list[dict[str, Any]]:
    """Check a folder wherever it is, as if it stood among the household's personas."""
    whole = folder.resolve()
    if not whole.is_dir():
        raise PersonaNotFound(f"there is no folder {folder}", folder=str(folder))
    library = Library([whole.parent])
    skills = Skills.load(settings.language, settings.state_dir / "skills")
    return [{"mistake": mistake, "persona": whole.name} for mistake in mistakes_of(whole.name, library, skills)]


async def _ask(request: dict[str, Any], settings: Settings, *, named: bool) -> Events:
    async def here(store: Store) -> Events:
        household = await _household(settings, store)
        return [message async for message in answer(request, household)]

    return await answered(request, settings.state_dir, here, named=named)


async def _household(settings: Settings, store: Store) -> Household:
    library = persona_library(settings, settings.state_dir)
    speaks = await persona_versions.in_use(store) or settings.personas.default

    async def use(persona: str) -> dict[str, Any]:
        switch = persona_versions.Switch(
            settings.device.room, speaks, library.load(persona), Source.CLI, "roomtone personas use", 0.0
        )
        await persona_versions.keep_switch(store, library, switch)
        return {"speaks": "when the daemon is started"}

    return Household(
        library=library,
        skills=Skills.load(settings.language, settings.state_dir / "skills"),
        store=store,
        speaks=speaks,
        where=Surroundings(
            settings.device.room,
            utc_now().astimezone(settings.zone),
            settings.household.names,
            settings.household.preferences,
        ),
        use=use,
    )


# ------------------------------------------------------------------------------------- for a person


def _show_list(events: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("", "id", "name", "version", "from"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what", overflow="fold")
    for one in (event["persona"] for event in events):
        tags = f" ({', '.join(one['tags'])})" if one["tags"] else ""
        what = f"broken: {one['broken'][0]}" if one["broken"] else f"{one['mode']}: {one['description']}{tags}"
        mark = "[green]*[/]" if one["speaks"] else ""
        cells = (one["id"], one["name"] or "", one["version"] or "", one["from"] or "", what)
        table.add_row(mark, *map(escape, cells))
    Console(highlight=False, soft_wrap=False).print(table)


def _show_one(events: list[dict[str, Any]]) -> None:
    for event in events:
        if "prompt" in event:
            say_line(event["prompt"])
            continue
        say_line(f"folder: {event['folder']}")
        for key, value in event["persona"].items():
            if value not in (None, "", [], {}):
                say_line(f"{key}: {_short(key, value)}")


def _short(key: str, value: Any) -> str:
    """Return what a key holds in a line: of long things how many there are."""
    if key in ("examples", "knowledge", "jokes", "phrases"):
        return (
            str(len(value))
            if isinstance(value, list)
            else ", ".join(f"{len(of)} in {in_}" for in_, of in value.items())
        )
    if key == "system_prompt":
        return f"{len(value)} characters (see --prompt)"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items() if each not in (None, []))
    return str(value)


def _show_mistakes(events: list[dict[str, Any]]) -> None:
    for event in events:
        say_line(event["mistake"])
    if not events:
        say_line("No mistakes.")


def _show_used(events: list[dict[str, Any]]) -> None:
    for event in events:
        used = event["used"]
        say_line(f"{used['name']} speaks {used['speaks']}.")


def _show_history(events: list[dict[str, Any]]) -> None:
    if not events:
        say_line("It has never spoken here.")
    for event in events:
        if "version" in event:
            version, mark = event["version"], "  (as it is now)" if event["present"] else ""
            when = f"since {_time(version['since'])}, last used {_time(version['last_used'])}"
            say_line(f"{version['content'][:SHOWN]}  version {version['version']}  {when}{mark}")
        else:
            switch = event["switch"]
            who = f"{switch['earlier']} -> {switch['persona']}"
            cause = f": {switch['cause']}" if switch["cause"] else ""
            say_line(f"{_time(switch['at'])}  {switch['room']}  {who}  by {switch['source']}{cause}")


def _show_rolled_back(events: list[dict[str, Any]]) -> None:
    for event in events:
        version = event["version"]
        say_line(f"{event['folder']} is version {version['version']} ({version['content'][:SHOWN]}) again.")


def _time(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S}"


SHOWS = {
    "list": _show_list,
    "show": _show_one,
    "check": _show_mistakes,
    "use": _show_used,
    "history": _show_history,
    "rollback": _show_rolled_back,
}
