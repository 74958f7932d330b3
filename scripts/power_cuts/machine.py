"""A room in a virtual machine: QEMU around a disk that is served to it, and what it writes on its serial ports."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from power_cuts.disk import Server
from power_cuts.verdict import Line

MEMORY_MB = 768
LOOK_S = 0.1
OPTIONS = "console=ttyS0 panic=-1 quiet mitigations=off clearcpuid=cx16 no_timer_check systemd.show_status=false"
"""QEMU 7.2 emulates the exchange of 16 bytes so that it crashes Linux 6.12 now and then: the kernel does without. Nor
does it try whether the timer ticks in time, which it does not where this machine has much else to do."""


class Machine:
    """A virtual machine that runs. ``lines`` are those it has written so far, ``console`` its first serial port."""

    def __init__(self, process: subprocess.Popen[bytes], port: Path, console: Path) -> None:
        self.lines: list[Line] = []
        self.console = console
        self._process = process
        self._port = port
        self._read = 0

    def look(self) -> list[Line]:
        """Return the lines that came since the last look. Raises EOFError where the machine has ended by itself."""
        with self._port.open("rb") as port:
            port.seek(self._read)
            whole = port.read().rpartition(b"\n")[0]
        self._read += len(whole) + 1 if whole else 0
        fresh = [json.loads(line) for line in whole.splitlines()]
        self.lines += fresh
        if not fresh and self._process.poll() is not None:
            raise EOFError(f"the virtual machine ended by itself; see {self.console}")
        return fresh

    def lines_until(self, kind: str, within_s: float) -> Iterator[Line]:
        """Yield lines up to one of a kind. Raises TimeoutError where it does not come, EOFError."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            for line in self.look():
                yield line
                if line["kind"] == kind:
                    return
            time.sleep(LOOK_S)
        raise TimeoutError(f"no '{kind}' within {within_s:g} s; see {self.console}")

    def lines_for(self, seconds: float) -> Iterator[Line]:
        """Yield the lines of so long a while. Raises EOFError."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            yield from self.look()
            time.sleep(LOOK_S)
        yield from self.look()

    def kill(self) -> None:
        """Take its power: nothing of it lives on but what its disk has."""
        self._process.kill()
        self._process.wait()


@contextmanager
def machine(
    disk: Server, kernel: Path, initramfs: Path, folder: Path, clock: datetime, options: str
) -> Iterator[Machine]:
    """Start a machine at a time of its clock, with options for its kernel; it is killed on leaving."""
    port, console = folder / "lines.jsonl", folder / "console.log"
    port.write_bytes(b"")
    command = [
        *("qemu-system-x86_64", "-machine", "pc", "-cpu", "max", "-accel", "tcg", "-smp", "1"),
        *("-m", str(MEMORY_MB), "-display", "none", "-no-reboot", "-nic", "none"),
        *("-kernel", str(kernel), "-initrd", str(initramfs), "-append", f"{OPTIONS} {options}"),
        *("-drive", f"file=nbd+unix:///?socket={disk.path},if=virtio,format=raw,cache=writeback"),
        *("-rtc", f"base={clock:%Y-%m-%dT%H:%M:%S},clock=host"),
        *("-chardev", f"file,id=console,path={console},append=on", "-serial", "chardev:console"),
        *("-serial", f"file:{port}"),
    ]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        running = Machine(process, port, console)
        try:
            yield running
        finally:
            running.kill()
