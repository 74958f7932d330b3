"""The installation of this machine: versions side by side in /opt/roomtone, made by scripts/install.sh.

``current`` is the link to the version that runs. Its ``install.sh`` does what is done to the installation.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from roomtone.core.errors import RoomtoneError

FOLDER = Path("/opt/roomtone")


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
