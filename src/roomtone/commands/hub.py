"""The house's hub: run it, ask it which rooms there are, move conversations, speak in other rooms, let devices in."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from collections.abc import Callable
from typing import Any

from roomtone import logs
from roomtone.commands import adding_actions, hub_enroll, say_json, say_line
from roomtone.config import Settings
from roomtone.control import ask_daemon, listens
from roomtone.core.errors import DeviceOffline, HubGone
from roomtone.core.handoff import Phase
from roomtone.core.wire import Code
from roomtone.hub.folder import SERVICE_SOCKET, socket_of

ELSEWHERE = {
    **dict.fromkeys(hub_enroll.ACTIONS, "roomtone.commands.hub_enroll"),
    "home-assistant": "roomtone.commands.hub_home_assistant",
    "simulate": "roomtone.commands.hub_simulate",
}
"""Actions of modules of their own, which hold ``add_actions(action)`` and ``run(args, settings) -> int``."""

NOTHING = {
    "devices": "No device is known yet; let one in: roomtone hub enroll",
    "where": "No room is known yet; let one in: roomtone hub enroll",
    "sessions": "There is no conversation in any room.",
}
"""What is said where a list is empty."""

MISSED: dict[str, str] = {
    DeviceOffline.code: "it is off",
    Code.QUIET: "it is not to be disturbed; said there later",
    Code.UNKNOWN: "it says nothing for others",
}
"""Why a room did not say an announcement, by the code."""

Event = dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take what to do, and with what."""
    action = adding_actions(parser, device=None, text=None, room=None, urgent=False, session=None)
    action("run", "the hub itself: beside the broker, until it is told to stop")
    action("devices", "the devices of the house, those that are off too")
    action("sessions", "conversations, and whose they are")
    action("where", "what goes on in each room")
    action("health", "whether it runs and reaches the broker: exit 1 where not, for what watches over it")
    handoff = action("handoff", "let the conversation of one room go on in another")
    handoff.add_argument("source", metavar="FROM", help="a room, or the id of a device")
    handoff.add_argument("to", metavar="TO", help="a room, or the id of a device")
    handoff.add_argument("--session", metavar="ID", help="this one; without: the present one")
    announce = action("announce", "say a text in all rooms, or in one")
    announce.add_argument("text", metavar="TEXT")
    announce.add_argument("--room", metavar="ROOM", help="in this one alone: a room, or the id of a device")
    announce.add_argument("--persona", metavar="PERSONA", help="in this one's voice, where a room has it")
    announce.add_argument("--urgent", action="store_true", help="in quiet hours too")
    retire = action("retire", "take a device out of the house that is not used any more")
    retire.add_argument("device", metavar="DEVICE", help="its id")
    for module in dict.fromkeys(ELSEWHERE.values()):
        importlib.import_module(module).add_actions(action)


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Run the hub, or ask the one that runs; print a line for each thing, or a JSON object."""
    if args.action in ELSEWHERE:
        code: int = importlib.import_module(ELSEWHERE[args.action]).run(args, settings)
        return code
    if args.action == "run":
        return _serve(args, settings)
    events = asyncio.run(_ask(_request(args), settings, named=args.state_dir is not None))
    for event in events:
        _show(event, args)
    if len(events) == 1 and args.action in NOTHING and not args.json:
        say_line(NOTHING[args.action])
    return _code(events[-1]["result"], args)


def _code(result: Any, args: argparse.Namespace) -> int:
    """Return the exit code: 1 where no room says an announcement, now or later, and for a hub without its broker."""
    if args.action == "health":
        return 0 if result["link"] == "ok" else 1
    if args.action != "announce":
        return 0
    later = [room for room, code in result.get("missed", []) if code == Code.QUIET]
    return 0 if result.get("rooms") or later else 1


def _serve(args: argparse.Namespace, settings: Settings) -> int:
    from roomtone.edges.service import backing_off
    from roomtone.hub.serve import await_setup, serve

    logs.set_up(settings.log)

    def on_ready() -> None:
        if args.json:
            say_json({"hub": "ready", "home": settings.hub.home})

    with backing_off("roomtone-hub"):
        await_setup(settings)
        asyncio.run(serve(settings, on_ready))
    return 0


def _request(args: argparse.Namespace) -> Event:
    request: Event = {"command": "status" if args.action == "health" else args.action}
    if args.action == "handoff":
        request |= {"from": args.source, "to": args.to, "session": args.session}
    elif args.action == "announce":
        request |= {"text": args.text, "room": args.room, "persona": args.persona, "urgent": args.urgent}
    elif args.action == "retire":
        request |= {"device": args.device}
    return request


async def _ask(request: Event, settings: Settings, *, named: bool) -> list[Event]:
    """Return the hub's events and result. Raises HubGone where none runs, and what the hub raised."""
    own = socket_of(settings.state_dir, {})
    for path in (own,) if named else (SERVICE_SOCKET, own):
        if await listens(path):
            return [message async for message in ask_daemon(path, request)]
    raise HubGone("no hub runs here; start it: sudo systemctl start roomtone-hub (or: roomtone hub run)")


# ----------------------------------------------------------------------------------------------- show


def _show(event: Event, args: argparse.Namespace) -> None:
    if "result" in event:
        _show_result(event["result"], args)
        return
    [(kind, told)] = event.items()
    if args.json:
        say_json(told)
    else:
        say_line(_LINES[kind](told))


def _show_result(result: Any, args: argparse.Namespace) -> None:
    if not isinstance(result, dict):
        return
    if args.action == "health":
        broker = "connected to the broker" if result["link"] == "ok" else f"without the broker: {result['link']}"
        told = f"The hub is {broker}; {result['online']} of {result['devices']} devices are on."
        say_json(result) if args.json else say_line(told)
    elif "link" in result:
        if result["link"] != "ok":
            sys.stderr.write(f"roomtone: this is how it was: {result['link']}\n")
    elif args.json:
        say_json(result)
    elif args.action == "handoff":
        over = result.get("phase") == Phase.OVER
        say_line(f"The conversation {'goes on in' if over else 'is on its way to'} the {result['room']}.")
    elif args.action == "announce":
        said, missed = result.get("rooms", []), result.get("missed", [])
        say_line(f"Said in: {', '.join(said)}." if said else "It was said nowhere.")
        for room, code in missed:
            say_line(f"Not in the {room}: {MISSED.get(code, code)}")


def _device(device: Event) -> str:
    standing = device["admission"] if device["admission"] != "active" else _present(device)
    newer = "  newer than this hub" if device["newer"] else ""
    return f"{device['id']:20}  {device['room']:14}  {standing:10}  {device['version']}{newer}"


def _present(told: Event) -> str:
    if not told["online"]:
        return "off"
    return "muted" if told["muted"] else str(told["state"] or "on")


def _room(room: Event) -> str:
    idle = f", last spoken with {room['idle_s']:.0f} s ago" if room["idle_s"] is not None else ""
    quiet = ", not to be disturbed" if room["quiet"] else ""
    persona = f", as {room['persona']}" if room["persona"] else ""
    return f"{room['room']:14}  {_present(room)}{persona}{idle}{quiet}"


def _session(session: Event) -> str:
    came = f"  came from {session['source']}" if session.get("source") else ""
    back = f", back for {session['why']}" if session.get("why") else ""
    way = f", {session['phase']}" if session.get("phase") not in (None, "over") else ""
    return f"{session['session'][:8]}  {session['owner']:20}  epoch {session['epoch']}{came}{back}{way}"


_LINES: dict[str, Callable[[Event], str]] = {"device": _device, "room": _room, "session": _session}
