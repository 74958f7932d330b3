"""The command line: parses, calls, prints. A command's module is imported only when the command is named.

Exit codes: 0 done, 1 could not do it, 2 wrong usage or configuration, 130 interrupted. Errors are one line on stderr;
``--debug`` adds the traceback.
"""

from __future__ import annotations

import argparse
import importlib
import os
import pwd
import shlex
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from roomtone import __version__
from roomtone.commands import COMMANDS, common_options
from roomtone.core.errors import ConfigError, RoomtoneError, UsageError

if TYPE_CHECKING:
    from roomtone.config import Settings

OF_THE_STATE = (
    *("run", "ask", "say", "event", "history", "receipt", "memory", "routines", "personas", "hub", "maintain"),
    "models",
)
"""Commands that read or write the household's state, and need nothing else that only root may touch."""

WHOLE = ("backup", "restore", "maintain", "models", "first-boot")
"""Commands that work on the state as a whole, beside the daemon: no socket tells whose it is."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # else numpy has a thread for each core, which only wait
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    try:
        code = _run(words)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _forget_stdout()
        return 0
    except Exception as error:
        return _report(error, debug)
    return code


def _run(words: list[str]) -> int:
    name = next((word for word in words if not word.startswith("-")), None)
    module: Any = _command(name) if name in COMMANDS else None
    args = _parser(name, module).parse_args(words)
    for option in ("config", "state_dir", "json", "debug"):
        vars(args).setdefault(option, None)
    settings = _settings(args, name)
    if name in WHOLE:
        _refuse_another_state(words, args, settings)
    if name in OF_THE_STATE:
        _become_its_owner(settings.state_dir)
    code: int = module.run(args, settings)
    return code


def _refuse_another_state(words: list[str], args: argparse.Namespace, settings: Settings) -> None:
    """Raise where this machine has a room, and another state that nobody named would be taken for it."""
    from roomtone.config import room_beside

    beside = room_beside(settings.state_dir) if args.state_dir is None else None
    if beside is not None:
        raise RoomtoneError(
            f"this machine's room is kept in {beside}, for root alone; run: sudo roomtone {shlex.join(words)} "
            "(or name another state folder: --state-dir DIR)"
        )


def _become_its_owner(state_dir: Path) -> None:
    """Go on as who has the state, where root is another: what root leaves there the daemon could not write."""
    if os.geteuid() != 0 or not state_dir.is_dir() or (has := state_dir.stat()).st_uid == 0:
        return
    try:
        owner = pwd.getpwuid(has.st_uid)
    except KeyError:  # a disk of another machine's
        os.setgroups([])
        os.setgid(has.st_gid)
    else:
        os.initgroups(owner.pw_name, owner.pw_gid)
        os.setgid(owner.pw_gid)
        os.environ["HOME"] = owner.pw_dir
    os.setuid(has.st_uid)


def _command(name: str) -> Any:
    return importlib.import_module(f"roomtone.commands.{name.replace('-', '_')}")


def _parser(name: str | None, module: Any) -> argparse.ArgumentParser:
    """Make the parser; only the command that was named gets its arguments."""
    parser = argparse.ArgumentParser(prog="roomtone", description="The voice of a room.")
    parser.add_argument("--version", action="version", version=f"roomtone {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command, summary in COMMANDS.items():
        about = module.__doc__ if command == name else summary
        one = commands.add_parser(
            command, help=summary, description=about, parents=[common_options()], allow_abbrev=False
        )
        if command == name:
            module.add_arguments(one)
    return parser


def _settings(args: argparse.Namespace, name: str | None) -> Settings:
    """Read the configuration, or for what must go on the last good one; ``args.mistakes`` says why."""
    from roomtone.config import load, load_or_last_good

    args.mistakes = []
    if name in ("run", "doctor", "first-boot", "upgrade", "rollback", "backup", "restore", "maintain"):
        settings, args.mistakes = load_or_last_good(args.config, args.state_dir)
        for mistake in args.mistakes if name == "run" else ():
            sys.stderr.write(f"roomtone: {mistake}\n")
    else:
        settings = load(args.config)
    return settings if args.state_dir is None else settings.model_copy(update={"state_dir": args.state_dir})


def _report(error: Exception, debug: bool) -> int:
    """Say what went wrong, a line for each thing, and return the exit code."""
    if debug:
        traceback.print_exception(error)
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, RoomtoneError):
            text = cause.message
        else:
            text = f"{_plain(cause)} ({type(cause).__name__}); add --debug to see where"
        for line in text.splitlines() or [""]:
            sys.stderr.write(f"roomtone: {line}\n")
    return 2 if all(isinstance(cause, (ConfigError, UsageError)) for cause in causes) else 1


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Take groups apart."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _causes(inner)
    else:
        yield error


def _plain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or "something went wrong"


def _forget_stdout() -> None:
    """Let nothing more be written to a pipe whose reader has gone, such as ``head``."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
