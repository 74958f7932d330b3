"""The card: how worn it is as far as it tells, whether it can be written, what is written to it without need."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from roomtone.doctor.board import ROOT
from roomtone.doctor.findings import Finding
from roomtone.doctor.machine import nearest

WORN_OUT = 0x0B
"""eMMC: life time used up; 1 to 10 are so many tenths of it (JEDEC JESD84-B51, EXT_CSD 268 and 269)."""

SOON_WORN = 9

URGENT = 3
"""eMMC: so much of the blocks in reserve is used (EXT_CSD 267: 1 normal, 2 80 %, 3 90 %)."""

NEW_CARD = "back up now (roomtone backup FILE) and flash a new card: one made for dash cameras lasts longest"
CHECK = (
    "back up now (roomtone backup FILE), add fsck.mode=force to /boot/firmware/cmdline.txt once, then: sudo reboot"
)
NO_SWAP = "run: sudo swapoff -a, then remove dphys-swapfile, or for rpi-swap set Mechanism=zram in /etc/rpi/swap.conf"


def look(state_dir: Path, root: Path = ROOT) -> Iterator[Finding]:
    """Tell how the disks are on which the state and the system lie."""
    yield from cards(root)
    yield from file_systems(root)
    yield from writable(state_dir, root)
    yield from swap(root)


def cards(root: Path) -> Iterator[Finding]:
    """Tell how worn each eMMC says it is; an SD card says nothing of it."""
    for device in sorted(root.glob("sys/block/mmcblk*/device")):
        disk = device.parent.name
        if re.search(r"boot\d|rpmb", disk):
            continue
        used = max((int(each, 16) for each in _words(device / "life_time") if _is_hex(each)), default=0)
        if not used:
            yield Finding("wear", "ok", f"{disk} is an SD card, which does not tell how worn it is")
            continue
        reserve = int((_words(device / "pre_eol_info") or ["0x01"])[0], 16)
        if used >= WORN_OUT or reserve >= URGENT:
            yield Finding("wear", "warn", f"{disk} is worn out by its own account", NEW_CARD)
        elif used >= SOON_WORN:
            yield Finding("wear", "warn", f"{disk} has used up to {used * 10} % of its life", NEW_CARD)
        else:
            yield Finding("wear", "ok", f"{disk} has used up to {used * 10} % of its life")


def file_systems(root: Path) -> Iterator[Finding]:
    """Tell of each ext4 whether it found itself damaged, and how much was ever written to it."""
    for folder in sorted(root.glob("sys/fs/ext4/*")):
        errors = _words(folder / "errors_count")
        if errors and errors[0] != "0":
            said = f"the file system on {folder.name} found {errors[0]} errors in itself"
            yield Finding("wear", "warn", said, CHECK)
        written = _words(folder / "lifetime_write_kbytes")
        if written and written[0].isdigit():
            yield Finding("wear", "ok", f"{int(written[0]) / 1e6:.1f} GB were ever written to {folder.name}")


def writable(state_dir: Path, root: Path) -> Iterator[Finding]:
    """Tell where the file system of the state takes no writes: a card that fails is made read-only by the kernel."""
    place = nearest(state_dir).resolve()
    holding: tuple[str, str, list[str]] | None = None
    for line in _lines(root / "proc/self/mounts"):
        device, mount, _, options, *_ = [*line.split(), "", "", "", ""]
        where = mount.replace("\\040", " ")
        if place.is_relative_to(where) and (holding is None or len(where) >= len(holding[1])):
            holding = (device, where, options.split(","))
    if holding is not None and "ro" in holding[2]:
        device, where, _ = holding
        said = f"{where}, on which the state lies, cannot be written"
        yield Finding("wear", "fail", said, f"see why: sudo dmesg | grep {Path(device).name}; {NEW_CARD}")


def swap(root: Path) -> Iterator[Finding]:
    """Tell of swap on an SD card: it wears the card, and a room that swaps answers late."""
    on_card = any(line.startswith("/dev/mmcblk") for line in _lines(root / "proc/self/mounts"))
    for line in _lines(root / "proc/swaps")[1:]:
        name, kind, *_ = [*line.split(), "", ""]
        if (kind == "file" and on_card) or name.startswith("/dev/mmcblk"):
            yield Finding("wear", "warn", f"memory is swapped to the card ({name}), which wears it", NO_SWAP)


def _is_hex(word: str) -> bool:
    return re.fullmatch(r"0x[0-9a-fA-F]+", word) is not None


def _words(file: Path) -> list[str]:
    return [word for line in _lines(file) for word in line.split()]


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
