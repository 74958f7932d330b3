"""Bring this machine to another version, from an archive that is signed with the key the installation knows.

The signature, FILE.sig beside it, is checked before anything is unpacked. The state is backed up, the new version put
beside the old one and started; where it does not become ready, or its own chirp is no longer heard, the old one comes
back by itself. The parts that were chosen at the installation are kept.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from roomtone.config import Settings
from roomtone.core.errors import UsageError
from roomtone.installed import install


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the archive and where packages come from."""
    parser.add_argument("file", type=Path, metavar="FILE", help="the archive, roomtone-VERSION.tar")
    parser.add_argument("--with", dest="parts", metavar="PART,...", help="other optional parts than before")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="take packages from this folder, not the network")


def run(args: argparse.Namespace, _: Settings) -> int:
    """Upgrade; return the installer's exit code."""
    if os.geteuid() == 0 and not args.file.is_file():  # who is not may not even look everywhere
        raise UsageError(f"{args.file}: there is no such file")
    words = ["upgrade", str(args.file.absolute())]
    if args.parts:
        words += ["--with", args.parts]
    if args.wheels:
        words += ["--wheels", str(args.wheels.absolute())]
    return install(*words)
