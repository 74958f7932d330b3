"""The installation of this machine: versions side by side in /opt/roomtone, made by scripts/install.sh.

``current`` is the link to the version that runs. Its ``install.sh`` does what is done to the installation.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from roomtone.core.errors import RoomtoneError

FOLDER = Path("/opt/roomtone")


def bringing(part: str, prefix: str = sys.prefix) -> str:
    """Return the command that brings an optional part (an extra): the installer's where it was, else pip's.

    The installer keeps beside its environment which parts it put there, and takes all that are wanted at once.
    """
    version = Path(prefix).parent
    try:
        parts = (version / "parts").read_text("utf-8").strip()
    except OSError:
        return f"pip install 'roomtone[{part}]'"
    wanted = sorted({part, *filter(None, parts.split(","))})
    return f"sudo {version.parent.parent / 'current' / 'install.sh'} --with {','.join(wanted)}"


def install(*words: str, folder: Path = FOLDER) -> int:
    """Run the installer of the version that is installed with these words, and return its exit code.

    Raises RoomtoneError where nothing is installed, or for anyone but root.
    """
    installer = folder / "current" / "install.sh"
    if not installer.exists():
        raise RoomtoneError(
            f"Roomtone is not installed in {folder}: only a machine-wide installation has versions; "
            "make one from a release: sudo ./install.sh"
        )
    if os.geteuid() != 0:
        raise RoomtoneError(f"only root may change the installation; run: sudo roomtone {' '.join(words)}")
    return subprocess.run(["/usr/bin/bash", str(installer), *words], check=False).returncode
