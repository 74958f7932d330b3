"""A bare Debian in a folder, for what needs a whole machine: unpacked once, a layer of its own for each test."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from machine import CACHE, REQUIRED, SOURCE, need_nspawn, sh

QUIET = ("--quiet", "--register=no", "--keep-unit", "--private-network")


def need() -> None:
    """Skip the test where no such machine can be had, unless ROOMTONE_REQUIRE names nspawn: then it fails."""
    need_nspawn()
    if shutil.which("openssl") is None:
        (pytest.fail if REQUIRED else pytest.skip)("there is no openssl; run: sudo apt install openssl")


def unpacked(folder: Path, suite: str = "bookworm") -> Path:
    """Unpack that Debian into a folder and return it."""
    archive = sh(SOURCE / "scripts/debian-root", suite, env={**os.environ, "XDG_CACHE_HOME": str(CACHE)}).strip()
    folder.mkdir(parents=True)
    sh("tar", "-xf", archive, "-C", folder)
    (folder / "etc/machine-id").write_text("uninitialized\n")
    mask = folder / "etc/systemd/system/systemd-firstboot.service"  # else it asks on the console
    mask.symlink_to("/dev/null")
    return folder


@contextmanager
def in_memory(folder: Path) -> Iterator[Path]:
    """Give a folder that is kept in memory, where a sync is quick and nothing has to be removed file by file."""
    folder.mkdir(parents=True)
    sh("mount", "-t", "tmpfs", "-o", "mode=755", "roomtone-tests", folder)
    try:
        yield folder
    finally:
        sh("umount", folder)
        folder.rmdir()


@contextmanager
def layer(below: Path, folder: Path) -> Iterator[Path]:
    """Give a machine that looks like the one below; what is written to it is kept apart, and in memory."""
    with in_memory(folder):
        for part in ("upper", "work", "root"):
            (folder / part).mkdir()
        options = f"lowerdir={below},upperdir={folder}/upper,workdir={folder}/work"
        sh("mount", "-t", "overlay", "overlay", "-o", options, folder / "root")
        try:
            yield folder / "root"
        finally:
            sh("umount", folder / "root")


def inside(root: Path, script: str, *, seconds: float = 120, user: str = "root") -> subprocess.CompletedProcess[str]:
    """Run a script in a machine that is not booted: no systemd, no network; stdout and stderr together."""
    words = ["systemd-nspawn", *QUIET, "--pipe", f"--user={user}", "-D", str(root), "/bin/bash", "-c", script]
    return _bounded(words, seconds)


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
