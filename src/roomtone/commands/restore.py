"""Take a backup in: on the machine it was made on, on one that takes its place, or as another room (--as-new).

All of it is checked before anything is touched, and what was there is kept beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path

import platformdirs

from roomtone import config
from roomtone.commands import say_json, say_line
from roomtone.config import SYSTEM_FILE, Settings
from roomtone.control import listens, state_lock
from roomtone.core.errors import BackupError, StateBusy
from roomtone.hub.folder import socket_of
from roomtone.settings import SERVICE_STATE
from roomtone.state_swap import PREPARING, acting_as
from roomtone.upkeep import restore

UNITS = ("roomtone.service", "roomtone-hub.service")
SYSTEMD = Path("/run/systemd/system")
"""There while systemd runs this machine (sd_booted(3))."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the backup, and whether this is to be another room."""
    parser.add_argument("file", metavar="FILE", type=Path, help="what roomtone backup has written")
    parser.add_argument(
        "--as-new",
        metavar="NAME",
        help="be another room beside the one that the backup is of, with what that one knew",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Restore; say what became of it and what is left to be done."""
    target = restore.target_for(settings.state_dir, _config(args.config, settings))
    if not args.file.is_file():
        raise BackupError(f"there is no file {args.file}; give one that roomtone backup has made")
    with _folders(target) as (folder, apart):
        prepared = restore.prepare(args.file, folder, target, args.as_new, apart)
        with stopped(settings.state_dir):
            lines = asyncio.run(_put(prepared, settings.state_dir))
    if args.json:
        say_json({"restored": str(args.file), "device": prepared.manifest.device.id, "notes": lines})
        return 0
    say_line(f"Restored as it was on {prepared.manifest.made.astimezone(settings.zone):%Y-%m-%d %H:%M}.")
    for line in lines:
        say_line(f"- {line}")
    return 0


def _config(named: Path | None, settings: Settings) -> Path:
    """Return where the configuration goes: where it is read from, else where this user's would be."""
    own = Path(platformdirs.user_config_dir("roomtone")) / "config.yaml"
    fresh = SYSTEM_FILE if settings.state_dir == SERVICE_STATE else own
    return config.find_file(named, os.environ) or fresh


@contextmanager
def _folders(target: restore.Target) -> Iterator[tuple[Path, Path | None]]:
    """Make a folder to unpack the state into, inside its own: what takes its place must be on the same file system.

    Where root restores what is another's, make a second one, of root's, for all else.
    """
    try:
        if not target.state_dir.exists():
            target.state_dir.mkdir(parents=True, mode=0o700)
            if target.owner is not None:
                os.chown(target.state_dir, *target.owner)
        with ExitStack() as stack:
            folder = stack.enter_context(_within(target.state_dir, target.owner))
            apart = None
            if target.owner is not None:
                target.config.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
                apart = stack.enter_context(_within(target.config.parent, None))
            yield folder, apart
    except PermissionError as error:
        where = error.filename or target.state_dir
        raise BackupError(f"{where} may not be written by this user; run it with sudo") from error
    except OSError as error:
        where = error.filename or target.state_dir
        raise BackupError(f"{where} cannot be written ({error.strerror}); mend the disk and try again") from error


@contextmanager
def _within(folder: Path, owner: tuple[int, int] | None) -> Iterator[Path]:
    with acting_as(owner):
        made = Path(tempfile.mkdtemp(prefix=PREPARING, dir=folder))
    try:
        yield made
    finally:
        with acting_as(owner):
            shutil.rmtree(made, ignore_errors=True)


async def _put(prepared: restore.Prepared, state_dir: Path) -> list[str]:
    if await listens(socket_of(state_dir, {})):
        raise StateBusy(f"a hub runs in {state_dir}; stop it first, then try again")
    async with AsyncExitStack() as stack:
        with acting_as(prepared.target.owner):
            await stack.enter_async_context(state_lock(state_dir, wait_s=1.0))
        return restore.put_in_place(prepared)


@contextmanager
def stopped(state_dir: Path) -> Iterator[None]:
    """Stop the services whose state it is, and start again those that ran, whatever comes of it."""
    ours = state_dir == SERVICE_STATE and SYSTEMD.is_dir() and os.geteuid() == 0
    ran = [unit for unit in UNITS if ours and _systemctl("is-active", "--quiet", unit) == 0]
    try:
        for unit in ran:
            if _systemctl("stop", unit) != 0:
                raise BackupError(f"{unit} cannot be stopped; see: systemctl status {unit}")
        yield
    finally:
        for unit in ran:
            _systemctl("start", "--no-block", unit)


def _systemctl(*words: str) -> int:
    return subprocess.run(["/usr/bin/systemctl", *words], check=False).returncode
