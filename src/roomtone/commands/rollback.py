"""Go back to the version of Roomtone that was installed before; said twice, forward again.

What was said, timers and memories stay: the older program takes back what the newer one did to the database's form,
and what only the newer one knows is set aside for its return.
"""

from __future__ import annotations

import argparse

from roomtone.config import Settings
from roomtone.installed import install


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Add nothing: there is one version before."""


def run(_args: argparse.Namespace, _settings: Settings) -> int:
    """Go back; return the installer's exit code."""
    return install("rollback")
