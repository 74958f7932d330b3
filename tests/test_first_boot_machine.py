"""The card on a real systemd: taken in before the daemon starts, wiped, told aloud; and a root hardly written to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from machine import SOURCE, Machine, a_copy, booted, installed, need_nspawn, renew, until

SECRET = "xylophone-secret"
CARD = f"""
name: The Kitchen
room: kitchen
time_zone: Europe/Berlin
listen: {{mode: open}}
audio: {{engine: sim}}
secrets: {{nas: {SECRET}}}
"""


@pytest.fixture
def root() -> Iterator[Path]:
    """Lay the image's files over a machine with Roomtone; the card's first partition is a mount of its own."""
    need_nspawn()
    with a_copy(installed("bookworm")) as root:
        renew(root)
        units = root / "etc/systemd/system"
        first_boot = units / "roomtone-first-boot.service"
        first_boot.unlink(missing_ok=True)
        first_boot.symlink_to("/opt/roomtone/current/systemd/roomtone-first-boot.service")
        wanted = units / "multi-user.target.wants/roomtone-first-boot.service"
        wanted.unlink(missing_ok=True)
        wanted.symlink_to("../roomtone-first-boot.service")
        subprocess.run([SOURCE / "scripts/image/customize", root], check=True, timeout=60)
        mount = (units / "etc.mount").read_text().replace("/etc", "/boot/firmware")
        (units / "boot-firmware.mount").write_text(mount)
        (units / "local-fs.target.wants/boot-firmware.mount").symlink_to("../boot-firmware.mount")
        yield root


def said(machine: Machine) -> str:
    return machine.run("roomtone", "history")


@pytest.mark.long
def test_a_card_sets_the_room_up_and_a_wrong_one_is_told_and_harms_nothing(root: Path) -> None:
    card = root / "boot/firmware/roomtone.yaml"
    card.write_text(CARD)
    with booted(root) as machine:
        machine.until_active("roomtone")
        until(lambda: "I am ready." in said(machine), "it says that it is ready")
        assert machine.run("hostname") == "the-kitchen\n"
        assert machine.run("readlink", "-f", "/etc/localtime") == "/usr/share/zoneinfo/Europe/Berlin\n"
        assert machine.run("cat", "/run/credentials/roomtone.service/roomtone_nas") == SECRET
        assert SECRET not in card.read_text()
        assert not machine.ask("systemctl", "--failed", "--no-legend")
        assert "Read-only" in machine.run("sh", "-c", "touch /usr/x /boot/x 2>&1 || true")
        machine.run("touch", "/etc/x", "/var/x", "/opt/roomtone/x", "/usr/local/x")
        assert machine.power_off() == 0

    configured = (root / "etc/roomtone/config.yaml").read_text()
    card.write_text("name: [")
    with booted(root) as machine:
        machine.until_active("roomtone")
        until(lambda: "Line 1: broken YAML" in said(machine), "it has said to the end what is wrong")
        assert "There is a mistake in the file roomtone dot yaml" in said(machine)
        assert said(machine).count("I am ready.") == 1
        assert machine.unit("roomtone-first-boot")["Result"] == "exit-code"
        assert (root / "etc/roomtone/config.yaml").read_text() == configured
        assert machine.power_off() == 0
