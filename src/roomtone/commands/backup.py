"""Write all that this room was told, set and taught into one file, while the daemon goes on.

The file holds what was said here, and the keys by which this room is known to its house: keep it as you would keep a
key. Models are not in it, only which ones there were.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import yaml

from roomtone import config
from roomtone.commands import say_json, say_line
from roomtone.config import Settings
from roomtone.upkeep import backup


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Take the file, or the folder in which one is made."""
    parser.add_argument("file", metavar="FILE", type=Path, help="what to write; in a folder it is named by itself")
    parser.add_argument(
        "--with-secrets", action="store_true", help="with the credentials (keys and passwords of other services) too"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Write the backup; print what it holds, and what it does not."""
    file: Path = args.file
    if file.is_dir():
        file = file / backup.name_for(settings.device.id)
    os.nice(10)  # the voice comes first
    found = config.find_file(args.config, os.environ)
    made = backup.make(settings, file, config=found, secrets=args.with_secrets)
    if args.json:
        say_json({"file": str(made.file), "bytes": made.size, "files": len(made.manifest.files)})
        return 0
    say_line(f"{made.file}: {len(made.manifest.files)} files, {max(1, made.size // 1000)} KB")
    for line in (*made.left_out, *_said_plainly(found, made.manifest)):
        sys.stderr.write(f"roomtone: {line}\n")
    return 0


def _said_plainly(found: Path | None, manifest: backup.Manifest) -> list[str]:
    """Say which secrets are in the file and which are not."""
    lines = []
    if manifest.secrets:
        lines.append("with credentials: whoever has this file can use your accounts")
    elif found is not None and (found.parent / "credentials").exists():
        lines.append("without credentials; with them: --with-secrets")
    try:
        bare = list(backup.bare_secrets(yaml.safe_load(found.read_text("utf-8")))) if found is not None else []
    except (OSError, ValueError, yaml.YAMLError):
        bare = []
    lines += [f"{found} itself holds a secret, which is in the backup: {key}" for key in bare]
    return lines
