"""How long after its start a room listens: the daemon as a process, until it says that it is ready. Linux only.

Without models, with the default engines, on a device that hears silence. Where this may (as root) the page cache is
emptied before, as after a boot: what is on the disk has to be read again.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from roomtone.bench import Figure, p

STARTS = 7
BOUND_S = 60.0
CACHES = Path("/proc/sys/vm/drop_caches")
"""Written 3, the kernel forgets what it has read of files (kernel documentation, sysctl/vm)."""


def measure() -> list[Figure]:
    """Start a room again and again, and listen for its READY as systemd would (sd_notify(3)); under a minute.

    Raises RuntimeError where the daemon does not come up.
    """
    with tempfile.TemporaryDirectory() as folder:
        _start(Path(folder))  # the first start in the life of a room makes its store and compiles its modules
        warm = [_start(Path(folder)) for _ in range(STARTS)]
        cold = [_start(Path(folder)) for _ in range(STARTS) if _empty_the_cache()]
    return [
        Figure("start_s_p50", _seconds(50, warm), "s", "<= 3", len(warm)),
        Figure("cold_start_s_p50", _seconds(50, cold), "s", "<= 3", len(cold)),
        Figure("cold_start_s_max", _seconds(100, cold), "s", "<= 3", len(cold)),
    ]


def _seconds(percent: float, times: list[float]) -> float | None:
    ms = p(percent, [1000 * seconds for seconds in times])
    return None if ms is None else round(ms / 1000, 2)


def _empty_the_cache() -> bool:
    os.sync()
    try:
        CACHES.write_text("3")
    except OSError:
        return False
    return True


def _start(folder: Path) -> float:
    """Start the daemon, wait until it is ready, end it; return the seconds that it took to be ready."""
    environment = {**os.environ, "ROOMTONE__AUDIO__ENGINE": "wav", "ROOMTONE__LOG__LEVEL": "error"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    address = folder / "notify.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(address))
        told.settimeout(BOUND_S)
        begun = time.monotonic()
        daemon = subprocess.Popen(
            [sys.executable, "-m", "roomtone.cli", "run", "--state-dir", str(folder / "state")],
            env={**environment, "NOTIFY_SOCKET": str(address)},
            stdout=subprocess.DEVNULL,
        )
        try:
            while b"READY=1" not in told.recv(4096):
                pass
            return time.monotonic() - begun
        except TimeoutError:
            raise RuntimeError("the daemon did not come up") from None
        finally:
            daemon.terminate()
            daemon.wait(timeout=BOUND_S)
            address.unlink()
