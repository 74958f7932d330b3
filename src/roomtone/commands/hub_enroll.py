"""Set the house's hub up, let devices in by a short code, join as one, and shut out one that was lost."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from roomtone import installed
from roomtone.commands import count_to, say_json, say_line
from roomtone.config import Settings
from roomtone.core.errors import HubGone, RegistrationError
from roomtone.enrolling import PORT, House, find_door, join, new_code, read_code, shown, split_address
from roomtone.flow import keep_trying

ACTIONS = ("setup", "enroll", "join", "revoke")
"""The actions of ``roomtone hub`` that are here."""

OPEN_MINUTES = 5
TRY_AGAIN_S = 2.0


def add_actions(action: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """Add the four things that can be done."""
    setup = action("setup", "make this machine the hub: certificates, and the broker's configuration")
    setup.add_argument("--host", action="append", default=[], metavar="NAME", help="a name the broker is called by")
    setup.add_argument("--port", type=count_to(65535), metavar="N", help="the broker's port for devices (8883)")
    setup.add_argument("--hub-port", type=count_to(65535), metavar="N", help="its port for the hub alone (8884)")
    setup.add_argument("--mosquitto-dir", type=Path, metavar="DIR", help="where Mosquitto reads its files")
    enroll = action("enroll", "let one new device in, by a short code")
    enroll.add_argument("--code", metavar="DIGITS", help="the code that the device says; without: one is shown here")
    enroll.add_argument("--replace", action="store_true", help="also a device whose id is in use: the old one goes")
    enroll.add_argument("--minutes", type=count_to(60), default=OPEN_MINUTES, metavar="N", help="wait so long (5)")
    enroll.add_argument("--enroll-port", type=count_to(65535), default=PORT, metavar="N", help=f"({PORT})")
    joining = action("join", "become a device of the house whose hub enrolls now")
    joining.add_argument("code", nargs="?", metavar="CODE", help="as the hub shows it; without: this room says one")
    joining.add_argument("--hub", metavar="HOST[:PORT]", help="where the hub is; without: it is looked for")
    revoke = action("revoke", "shut a lost device out, at once and for good")
    revoke.add_argument("device", metavar="DEVICE", help="its id")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Do what was asked for."""
    actions = {"setup": _setup, "enroll": _enroll, "join": _join, "revoke": _revoke}
    try:
        return actions[args.action](args, settings)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in ("cryptography", "spake2", "aiomqtt", "paho"):
            raise
        why = f"{error.name} is not installed; run: {installed.bringing('hub')}"
        raise RegistrationError(why) from None


# --------------------------------------------------------------------------------------------- setup


def _setup(args: argparse.Namespace, settings: Settings) -> int:
    from roomtone.hub import mosquitto
    from roomtone.hub.authority import own_names
    from roomtone.hub.setting_up import Setup, commands, set_up

    names = own_names()
    called = args.host[0] if args.host else next((name for name in names if name.endswith(".local")), "localhost")
    port = args.port or mosquitto.PORT
    setup = Setup(
        home=settings.hub.home,
        url=f"mqtts://{called}:{port}",
        port=port,
        hub_port=args.hub_port or mosquitto.HUB_PORT,
        installed=args.mosquitto_dir or mosquitto.INSTALLED,
    )
    set_up(settings.state_dir, setup, [*names, *args.host])
    lines = commands(settings.state_dir, setup)
    if args.json:
        say_json({"home": setup.home, "url": setup.url, "names": [*names, *args.host], "commands": lines})
        return 0
    say_line(f"The hub of the home '{setup.home}' is set up; devices will reach its broker as {setup.url}.")
    say_line("Put the broker's files in place:")
    for line in lines:
        say_line(f"  {line}")
    return 0


# -------------------------------------------------------------------------------------------- enroll


def _enroll(args: argparse.Namespace, settings: Settings) -> int:
    """Keep the door open until one device has come in, and let the broker know where that needs it."""
    from roomtone.hub.enrolment import Terms
    from roomtone.hub.setting_up import own_authority, read_setup

    setup = read_setup(settings.state_dir)
    authority = own_authority(settings.state_dir)
    code = read_code(args.code) if args.code else new_code()
    terms = Terms(setup.home, setup.url, code, args.replace)
    before = (authority.number, authority.shut_out())
    wish = asyncio.run(_open_door(authority, terms, args))
    if (authority.number, authority.shut_out()) != before:
        asyncio.run(_readmit(settings, wish.id))
    if args.json:
        say_json({"enrolled": wish.id, "room": wish.room, "name": wish.name})
    else:
        say_line(f"{wish.id} is now a device of the house{f', in the room {wish.room}' if wish.room else ''}.")
    return 0


async def _open_door(authority: Any, terms: Any, args: argparse.Namespace) -> Any:
    from roomtone.enrolling import announcing_door
    from roomtone.flow import cancelling_group
    from roomtone.hub.enrolment import enroll

    async with cancelling_group() as tasks:

        def opened(port: int) -> None:
            tasks.create_task(announcing_door(terms.home, port), name="announcing the door")
            _tell_code(args, terms.code, port)

        return await enroll(authority, terms, port=args.enroll_port, open_s=args.minutes * 60, opened=opened)


def _tell_code(args: argparse.Namespace, code: str, port: int) -> None:
    if args.json:
        say_json({"code": code, "port": port, "minutes": args.minutes})
    elif args.code:
        say_line(f"Waiting {args.minutes} minutes for the device that says {shown(code)}.")
    else:
        say_line(f"The code is {shown(code)}. Type at the device, within {args.minutes} minutes:")
        say_line(f"  roomtone hub join {code}")
    sys.stdout.flush()


async def _readmit(settings: Settings, id_: str) -> None:
    """Let the broker read the lists, and the hub's registry know, of a device that takes an older one's place."""
    from roomtone.hub.registry import Admission
    from roomtone.hub.setting_up import own_link, refresh_lists
    from roomtone.hub.shutting_out import lists_read

    marker = refresh_lists(settings.state_dir)
    await _write_down(settings, id_, Admission.ACTIVE)
    await lists_read(own_link(settings.hub, settings.state_dir), settings.state_dir, marker)


# -------------------------------------------------------------------------------------------- revoke


def _revoke(args: argparse.Namespace, settings: Settings) -> int:
    from roomtone.hub.authority import RESERVED
    from roomtone.hub.setting_up import own_authority

    authority = own_authority(settings.state_dir)
    known = authority.issued() | authority.shut_out()
    if args.device in RESERVED or args.device not in known:
        devices = ", ".join(sorted(authority.issued() - set(RESERVED))) or "none"
        raise RegistrationError(f"no device called {args.device} was enrolled; enrolled are: {devices}")
    authority.revoke(args.device)
    asyncio.run(_shut_out(settings, args.device))
    if args.json:
        say_json({"revoked": args.device})
    else:
        say_line(f"{args.device} is shut out: its connection has ended, and it does not come back.")
    return 0


async def _shut_out(settings: Settings, id_: str) -> None:
    from roomtone.hub.registry import Admission
    from roomtone.hub.setting_up import own_link, refresh_lists
    from roomtone.hub.shutting_out import shut_out

    marker = refresh_lists(settings.state_dir)
    await _write_down(settings, id_, Admission.REVOKED)
    await shut_out(own_link(settings.hub, settings.state_dir), settings.state_dir, id_, marker)


async def _write_down(settings: Settings, id_: str, admission: Any) -> None:
    from roomtone.hub.database import open_database
    from roomtone.hub.folder import database_path
    from roomtone.hub.registry import admit

    async with open_database(database_path(settings.state_dir)) as database:
        await admit(database, id_, admission)


# ---------------------------------------------------------------------------------------------- join


def _join(args: argparse.Namespace, settings: Settings) -> int:
    if args.code is None:
        code = new_code()
        _say_code(settings, code, named=args.state_dir is not None, as_json=args.json)
    else:
        code = read_code(args.code)
    house = asyncio.run(_come_in(args, settings, code))
    if args.json:
        say_json({"joined": house.home, "id": house.id, "url": house.url})
    else:
        say_line(
            f"{house.id} is now a device of the home '{house.home}'. Start Roomtone anew, and it joins the rest."
        )
    return 0


async def _come_in(args: argparse.Namespace, settings: Settings, code: str) -> House:
    """Join; with a code that this room has said, as soon as somebody has typed it at the hub."""

    async def attempt() -> House:
        if args.hub is not None:
            host, port = split_address(args.hub)
        else:
            found = await find_door()
            host, port = found.address, found.port
        return await join(host, port, code, settings.device, settings.state_dir)

    if args.code is not None:
        return await attempt()
    try:
        async with asyncio.timeout(OPEN_MINUTES * 60):
            return await keep_trying(attempt, on=HubGone, first_s=TRY_AGAIN_S, longest_s=TRY_AGAIN_S)
    except TimeoutError:
        raise HubGone(f"nobody typed the code at the hub in {OPEN_MINUTES} minutes; run it again") from None


def _say_code(settings: Settings, code: str, *, named: bool, as_json: bool | None) -> None:
    """Say a code aloud, and show it; whoever stands at the hub types it there."""
    from roomtone.asking import ask

    if as_json:
        say_json({"code": code})
    else:
        say_line(f"My code is {shown(code)}. Type at the hub:")
        say_line(f"  roomtone hub enroll --code {code}")
    sys.stdout.flush()
    spoken = ", ".join(" ".join(part) for part in (code[:3], code[3:]))
    ask(settings, f"My code is {spoken}. Once more: {spoken}.", verbatim=True, named=named)
