"""The optional parts of Roomtone, and the command that brings one to this machine."""

from __future__ import annotations

import sys
from pathlib import Path


def command(extra: str, prefix: str = sys.prefix) -> str:
    """Return the command that brings an extra: the installer's where it made this environment, else pip's.

    The installer keeps beside its environment which parts it put there, and takes all that are wanted at once.
    """
    version = Path(prefix).parent
    try:
        parts = (version / "parts").read_text("utf-8").strip()
    except OSError:
        return f"pip install 'roomtone[{extra}]'"
    wanted = sorted({extra, *filter(None, parts.split(","))})
    return f"sudo {version.parent.parent / 'current' / 'install.sh'} --with {','.join(wanted)}"
