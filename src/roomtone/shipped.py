"""Where the files that come with Roomtone stand: beside the source in a checkout, inside an installed package."""

from __future__ import annotations

from pathlib import Path

from roomtone.core.errors import ConfigError

PACKAGE = Path(__file__).parent


def shipped(kind: str) -> Path:
    """Return the folder of shipped ``personas``, ``models`` or ``systemd`` units.

    Raises ConfigError where the installation lacks it.
    """
    for place in (PACKAGE / "shipped" / kind, PACKAGE.parent.parent / kind):
        if place.is_dir():
            return place
    raise ConfigError(f"this installation lacks its {kind}; run: pip install --force-reinstall roomtone", kind=kind)
