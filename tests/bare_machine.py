"""A bare Debian in a folder, for what needs a whole machine: unpacked once, a layer of its own for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
QUIET = ("--quiet", "--register=no", "--keep-unit", "--private-network")


def lacking(suite: str = "bookworm") -> str | None:
    """Say why no such machine can be had here; None where it can."""
    if os.geteuid() != 0:
        return "a machine in a folder needs root"
    for tool in ("systemd-nspawn", "mmdebstrap", "openssl"):
        if shutil.which(tool) is None:
            return f"there is no {tool}; apt: systemd-container mmdebstrap openssl"
    roots = Path(os.environ.get("XDG_CACHE_HOME", "/root/.cache")) / "roomtone/roots"
    if not list(roots.glob(f"{suite}-*.tar")) and not required():
        return f"there is no Debian root yet; make it once: scripts/debian-root {suite}"
    return None


def required() -> bool:
    """Tell whether ROOMTONE_REQUIRE wants failures, not skips."""
    return "nspawn" in os.environ.get("ROOMTONE_REQUIRE", "").split(",")


def need(suite: str = "bookworm") -> None:
    """Skip the test where no such machine can be had, unless ROOMTONE_REQUIRE names nspawn: then it fails."""
    if why := lacking(suite):
        (pytest.fail if required() else pytest.skip)(why)


def unpacked(folder: Path, suite: str = "bookworm") -> Path:
    """Unpack that Debian into a folder and return it."""
    environment = {**os.environ, "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", "/root/.cache")}
    script = [str(REPOSITORY / "scripts/debian-root"), suite]
    archive = subprocess.run(script, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-xf", archive, "-C", str(folder)], check=True)
    (folder / "etc/machine-id").write_text("uninitialized\n")
    mask = folder / "etc/systemd/system/systemd-firstboot.service"  # else it asks on the console
    mask.symlink_to("/dev/null")
    return folder


@contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """Give a folder that is kept in memory, where a sync is quick and nothing has to be removed file by file."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "roomtone-tests", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


@contextmanager
def layer(below: Path, folder: Path) -> Iterator[Path]:
    """Give a machine that looks like the one below; what is written to it is kept apart, and in memory."""
    with in_memory(folder):
        for part in ("upper", "work", "root"):
            (folder / part).mkdir()
        options = f"lowerdir={below},upperdir={folder}/upper,workdir={folder}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, str(folder / "root")], check=True)
        try:
            yield folder / "root"
        finally:
            subprocess.run(["umount", str(folder / "root")], check=True)


def inside(root: Path, script: str, *, seconds: float = 120, user: str = "root") -> subprocess.CompletedProcess[str]:
    """Run a script in a machine that is not booted: no systemd, no network; stdout and stderr together."""
    words = ["systemd-nspawn", *QUIET, "--pipe", f"--user={user}", "-D", str(root), "/bin/bash", "-c", script]
    return _bounded(words, seconds)


class Booted:
    """A machine whose systemd runs."""

    def __init__(self, init: int) -> None:
        self._init = init

    def run(self, script: str, *, seconds: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a script as root in it; stdout and stderr together."""
        enter = [
            "nsenter",
            "--target",
            str(self._init),
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--root",
            "--wd",
        ]
        return _bounded([*enter, "/bin/bash", "-c", script], seconds)

    def has(self, script: str, *, seconds: float = 60) -> bool:
        """Wait until a script ends with 0; tell whether it did in that time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(script).returncode == 0:
                return True
            time.sleep(0.1)  # a machine of its own, with a clock of its own
        return False

    def unplug(self) -> None:
        """Let every process of it end at once, as where its current is cut."""
        os.kill(self._init, 9)


@contextmanager
def booted(root: Path, *options: str, seconds: float = 60) -> Iterator[Booted]:
    """Boot a machine; power it off at the end, if nobody did."""
    words = ["systemd-nspawn", *QUIET, "--boot", "--console=pipe", *options, "-D", str(root)]
    log = root.parent / "console"
    with (
        log.open("wb") as console,
        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT) as nspawn,
    ):
        try:
            yield Booted(_init_of(nspawn, seconds))
        finally:
            nspawn.terminate()  # its way to power off
            try:
                nspawn.wait(30)
            finally:
                nspawn.kill()


def _init_of(nspawn: subprocess.Popen[bytes], seconds: float) -> int:
    """Return the id of the machine's first process, once its systemd answers."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and nspawn.poll() is None:
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
        for child in children:
            machine = Booted(int(child))
            if machine.run("systemctl is-active --quiet basic.target").returncode == 0:
                return int(child)
        time.sleep(0.05)
    raise AssertionError("the machine does not boot")


def _bounded(words: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    bound = ["timeout", "--kill-after=5", str(seconds)]
    return subprocess.run(
        [*bound, *words],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
