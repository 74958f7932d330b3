"""A small machine for tests: Debian with Roomtone installed by its installer, booted by systemd in a container.

It takes root and systemd-nspawn, and the network once: what was installed is kept in ~/.cache/roomtone, and of what
changes from day to day only Roomtone itself is put in anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

SOURCE = Path(__file__).parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path("~" + os.environ.get("SUDO_USER", "")).expanduser() / ".cache")
KEPT = CACHE / "roomtone" / "machines"
REQUIRED = "nspawn" in os.environ.get("ROOMTONE_REQUIRE", "").split(",")
BOUND_S = 60.0
"""Longest that anything here may take before it counts as lost; nothing is timed."""

INSTALLER = ("install.sh", "install-version.sh")
PACKAGED_BY = ("release", "debian-root")


def need_nspawn() -> None:
    """Skip a test where no machine can be booted, unless ROOMTONE_REQUIRE names nspawn."""
    lacking = None
    if os.geteuid() != 0:
        lacking = "only root may boot a machine"
    elif shutil.which("systemd-nspawn") is None or shutil.which("mmdebstrap") is None:
        lacking = "run: sudo apt install systemd-container mmdebstrap"
    if lacking is not None and not REQUIRED:
        pytest.skip(lacking)
    assert lacking is None, lacking


def sh(*words: str | Path, **options: Any) -> str:
    """Run a program to its end and return what it printed; fail with what it said."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, timeout=1800, check=False, **options
    )
    assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"
    return done.stdout


# ------------------------------------------------------------------------------------------- what is installed


def installed(suite: str) -> Path:
    """Return the root of a Debian in which Roomtone is installed, making it where the packages have changed.

    Skips the test where that cannot be done, as without a network, unless ROOMTONE_REQUIRE names nspawn.
    """
    packages = digest("requirements-install.lock", *(f"scripts/{name}" for name in PACKAGED_BY))
    release = KEPT / f"{suite}-{packages}-release"
    root = KEPT / f"{suite}-{packages}-{digest(*(f'scripts/{name}' for name in INSTALLER))}"
    KEPT.mkdir(parents=True, exist_ok=True)
    with (KEPT / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            for old in KEPT.glob(f"{suite}-*"):
                if old != release:
                    shutil.rmtree(old)
            try:
                make(suite, release, root)
            except AssertionError as error:
                if REQUIRED:
                    raise
                pytest.skip(f"no {suite} with Roomtone can be made here: {str(error).strip().splitlines()[-1]}")
    return root


def digest(*names: str) -> str:
    """Return what changes when one of these files of the source does."""
    return hashlib.sha256(b"".join((SOURCE / name).read_bytes() for name in names)).hexdigest()[:8]


def make(suite: str, release: Path, root: Path) -> None:
    """Install a release for machines without a network in a bare Debian, as a household would."""
    home = Path("~" + os.environ.get("SUDO_USER", "")).expanduser()
    env = {**os.environ, "ROOMTONE_PYTHON": sys.executable, "HOME": str(home)}
    archive = sh(SOURCE / "scripts" / "debian-root", suite, env=env).strip()
    fresh = Path(f"{root}.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    if not release.exists():
        with tempfile.TemporaryDirectory(dir=KEPT) as folder:
            command = [SOURCE / "scripts" / "release", "--offline", suite, "amd64", "--folder", folder]
            Path(sh(*command, env=env, cwd=SOURCE).strip()).rename(release)
    sh("tar", "-xf", archive, "-C", fresh)
    shutil.copytree(release, fresh / "release")
    for name in INSTALLER:
        shutil.copy2(SOURCE / "scripts" / name, fresh / "release" / name)
    # A namespace of its own, so that nothing stays mounted whatever fails.
    sh("unshare", "--mount", "--pid", "--fork", f"--mount-proc={fresh}/proc", "chroot", fresh, "/release/install.sh")
    shutil.rmtree(fresh / "release")
    (fresh / "etc/machine-id").write_text("uninitialized\n")
    (fresh / "etc/systemd/system/systemd-firstboot.service").symlink_to("/dev/null")
    fresh.rename(root)


def renew(root: Path) -> None:
    """Put Roomtone itself in as it is now."""
    version = (root / "opt/roomtone/current").resolve(strict=False)
    version = root / "opt/roomtone" / os.readlink(root / "opt/roomtone/current") if not version.is_dir() else version
    [package] = version.glob("venv/lib/python3*/site-packages/roomtone")
    without = shutil.ignore_patterns("__pycache__")
    shutil.rmtree(package)
    shutil.copytree(SOURCE / "src/roomtone", package, ignore=without)
    for kind in ("personas", "models", "systemd"):
        shutil.copytree(SOURCE / kind, package / "shipped" / kind, ignore=without)
    shutil.rmtree(version / "systemd")
    shutil.copytree(SOURCE / "systemd", version / "systemd")
    inside = "/" + str(package.relative_to(root))
    sh("chroot", root, "/opt/roomtone/current/venv/bin/python", "-m", "compileall", "-q", inside)


@contextmanager
def a_copy(root: Path) -> Iterator[Path]:
    """Lay an empty layer over a root, for whatever a test writes, and take it away at the end."""
    with tempfile.TemporaryDirectory(prefix="roomtone-machine-") as folder:
        upper, work, merged = (Path(folder) / name for name in ("upper", "work", "merged"))
        for each in (upper, work, merged):
            each.mkdir()
        layers = f"lowerdir={root},upperdir={upper},workdir={work}"
        sh("mount", "-t", "overlay", "overlay", "-o", layers, merged)
        try:
            yield merged
        finally:
            sh("umount", merged)


# ----------------------------------------------------------------------------------------------- what runs


class Machine:
    """A booted machine. ``run`` runs a command in it, as its root."""

    def __init__(self, root: Path, console: Path) -> None:
        self.console = console
        with console.open("w") as out:
            self._nspawn = subprocess.Popen(
                [
                    "systemd-nspawn",
                    "--quiet",
                    "--boot",
                    f"--directory={root}",
                    "--register=no",
                    "--keep-unit",
                    "--private-network",
                    "--console=pipe",
                    f"--machine={root.parent.name.replace('_', 'x')}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
            )
        self._init = 0

    def until_booted(self) -> None:
        """Wait until its systemd answers."""
        until(self._has_init, "it has an init")
        until(
            lambda: self.ask("systemctl", "is-system-running").strip() not in ("", "offline"), "its systemd answers"
        )

    def _has_init(self) -> bool:
        assert self._nspawn.poll() is None, self.console.read_text()
        for child in self._children():
            comm = Path(f"/proc/{child}/comm")
            if comm.exists() and comm.read_text() == "systemd\n":
                self._init = child
        return self._init > 0

    def _children(self) -> list[int]:
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text()
        return [int(child) for child in children.split()]

    def _inside(self, words: tuple[str, ...], seconds: float = BOUND_S) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", f"--target={self._init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd"]
        env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": "/root",
        }
        return subprocess.run([*enter, *words], capture_output=True, text=True, timeout=seconds, check=False, env=env)

    def shell(self, script: str, *, seconds: float = BOUND_S) -> subprocess.CompletedProcess[str]:
        """Run a script in the machine, whatever its exit code; what goes to stderr is in its stdout."""
        return self._inside(("bash", "-c", f"exec 2>&1; {script}"), seconds)

    def ask(self, *words: str) -> str:
        """Return what a command in the machine prints, whatever its exit code."""
        return self._inside(words).stdout

    def run(self, *words: str) -> str:
        """Return what a command in the machine prints; fail with what it said where it fails."""
        done = self._inside(words)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    def unit(self, name: str) -> dict[str, str]:
        """Return what systemd says of a unit."""
        return dict(line.split("=", 1) for line in self.run("systemctl", "show", name).splitlines() if "=" in line)

    def until_active(self, name: str, than: str = "") -> dict[str, str]:
        """Wait until a unit is active, by another invocation ``than`` one, and return what systemd says of it."""

        def active() -> bool:
            unit.update(self.unit(name))
            return unit["ActiveState"] == "active" and unit["InvocationID"] != than

        unit: dict[str, str] = {}
        try:
            until(active, f"{name} is active")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.ask('journalctl', '-n', '40', '-u', name)}") from None
        return unit

    def journal(self, *query: str) -> list[dict[str, Any]]:
        """Return the records of the journal that match."""
        return [json.loads(line) for line in self.run("journalctl", "--output=json", "--all", *query).splitlines()]

    def power_off(self) -> int:
        """Switch it off and return nspawn's exit code: 0 where all ended well."""
        self.run("systemctl", "--no-block", "poweroff")
        return self._nspawn.wait(BOUND_S)

    def kill(self) -> None:
        """Let it be gone, as without power."""
        if self._nspawn.poll() is not None:
            return
        children = self._children()  # its init outlives it, and would hold the root, the memory and the watches
        self._nspawn.kill()
        self._nspawn.wait(BOUND_S)
        for child in children:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it was ending by itself
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "all of it is gone")


@contextmanager
def booted(root: Path) -> Iterator[Machine]:
    """Boot a root; the machine does not outlive the context."""
    machine = Machine(root, root.parent / "console")
    try:
        machine.until_booted()
        yield machine
    finally:
        machine.kill()


def until(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds, looking often; a bound that only a broken machine meets."""
    deadline = time.monotonic() + BOUND_S
    while not holds():
        assert time.monotonic() < deadline, f"it never came to be that {what}"
        time.sleep(0.05)
