"""The doctor at the machine: each illness of a board, its card and its service, on a machine of the test's own."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from roomtone.commands import COMMANDS
from roomtone.doctor import board, units, wear
from roomtone.doctor.findings import Finding
from roomtone.upkeep import maintenance
from roomtone.upkeep.maintenance import Line, Outcome

NOW = datetime(2026, 11, 22, 2, 0, tzinfo=UTC)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def write(root: Path, path: str, content: str) -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    return file


def nobody(_: object) -> None:
    return None


def levels(found: list[Finding]) -> list[str]:
    return [finding.level for finding in found]


def only(found: object) -> Finding:
    (finding,) = list(found)  # type: ignore[call-overload]
    assert isinstance(finding, Finding)
    assert finding.level == "ok" or finding.mend, "what is wrong comes with what mends it"
    return finding


# -------------------------------------------------------------------------------------------- the board


def test_a_board_is_named_by_its_device_tree_and_another_machine_by_what_it_says(root: Path) -> None:
    assert board.model(root).said.startswith("an unknown machine")
    write(root, "sys/class/dmi/id/product_name", "NUC7\n")
    assert board.model(root).said.startswith("NUC7, ")
    write(root, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    assert board.model(root).said.startswith("Raspberry Pi 4 Model B Rev 1.5, ")


def test_a_system_is_named_with_its_image_and_told_when_it_is_mended_no_more(root: Path) -> None:
    write(root, "etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nVERSION_CODENAME=bookworm\n')
    write(root, "etc/rpi-issue", "Raspberry Pi reference 2025-10-01\nGenerated using pi-gen")
    assert only(board.system(root, NOW)).said == "Debian GNU/Linux 12 (bookworm), of an image of 2025-10-01"
    old = only(board.system(root, NOW.replace(year=2029)))
    assert (old.level, old.mend) == ("warn", board.FLASH)


def test_a_system_that_nobody_brings_up_to_date_is_told(root: Path) -> None:
    status = write(root, "var/lib/dpkg/status", "")
    os.utime(status, (0, (NOW - timedelta(days=200)).timestamp()))
    named, stale = board.system(root, NOW)
    assert (named.level, stale.level, stale.mend) == ("ok", "warn", board.UPDATE)
    os.utime(status, (0, (NOW - timedelta(days=100)).timestamp()))
    assert levels(list(board.system(root, NOW))) == ["ok"]


def test_a_32_bit_userland_is_told_also_under_a_kernel_of_64_bits() -> None:
    assert list(board.userland(64, "aarch64")) == []
    assert "under a kernel of 64 bits" in only(board.userland(32, "aarch64")).said
    assert "under a kernel" not in only(board.userland(32, "armv7l")).said


# -------------------------------------------------------------------------------------- power and heat


@pytest.mark.parametrize(
    ("bits", "subject", "said"),
    [
        (0x1, "power", "too low now"),
        (0x50005, "power", "too low now"),
        (0x10000, "power", "was too low since"),
        (0x8, "heat", "slowed down now"),
        (0x2, "heat", "slowed down now"),
        (0x80000, "heat", "was slowed down by heat"),
    ],
)
def test_each_bit_of_the_firmware_is_told_now_and_since_the_start(
    root: Path, bits: int, subject: str, said: str
) -> None:
    wrong = [finding for finding in board.power(bits, root) if finding.level == "warn"]
    assert subject in [finding.subject for finding in wrong]
    assert any(said in finding.said for finding in wrong)
    assert all(finding.mend for finding in wrong)


def test_power_that_was_always_enough_is_well(root: Path) -> None:
    assert levels(list(board.power(0, root))) == ["ok"]


def test_a_frequency_that_low_voltage_holds_down_is_not_taken_for_heat(root: Path) -> None:
    assert {finding.subject for finding in board.power(0x50003, root)} == {"power"}


@pytest.mark.parametrize("soc", ["soc/soc:firmware", "soc@107c000000/soc@107c000000:firmware"])
def test_the_bits_come_from_the_kernel_or_from_the_firmwares_own_program(root: Path, soc: str) -> None:
    assert board.throttled(root, nobody) is None
    assert board.throttled(root, lambda words: "throttled=0x50000\n") == 0x50000
    write(root, f"sys/devices/platform/{soc}/get_throttled", "1\n")
    assert board.throttled(root, nobody) == 1


def test_without_the_firmware_the_voltage_monitor_is_asked(root: Path) -> None:
    assert list(board.power(None, root)) == []
    write(root, "sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n")
    assert only(board.power(None, root)).mend == board.SUPPLY


# ------------------------------------------------------------------------------------------------ HATs

OWN = " 0 [vc4hdmi0       ]: vc4-hdmi - vc4-hdmi-0\n                      vc4-hdmi-0\n 1 [Headphones     ]: bcm2835"
WM8960 = "\n 2 [wm8960soundcard]: simple-card - wm8960-soundcard"


def test_a_hat_whose_overlay_is_missing_is_told_with_the_line_that_is_lacking(root: Path) -> None:
    write(root, "boot/firmware/config.txt", "dtparam=audio=on\n#dtoverlay=wm8960-soundcard\n")
    write(root, "proc/asound/cards", OWN)
    lacking = only(board.hats(root, "respeaker-2mic"))
    assert lacking.mend == (
        "run: echo dtoverlay=wm8960-soundcard | sudo tee -a /boot/firmware/config.txt; sudo reboot"
    )
    write(root, "proc/asound/cards", OWN + WM8960)
    assert list(board.hats(root, "respeaker-2mic")) == []
    assert list(board.hats(root, "none")) == []


def test_a_hat_that_names_itself_and_has_no_sound_card_is_told(root: Path) -> None:
    write(root, "proc/device-tree/hat/product", "Voice HAT\0")
    write(root, "proc/device-tree/hat/vendor", "Somebody\0")
    write(root, "boot/firmware/config.txt", "")
    write(root, "proc/asound/cards", OWN)
    there, lacking = board.hats(root, "none")
    assert there.said == "Somebody Voice HAT is on the board"
    assert (lacking.level, "/boot/firmware/config.txt" in str(lacking.mend)) == ("warn", True)
    write(root, "proc/asound/cards", OWN + WM8960)
    assert levels(list(board.hats(root, "none"))) == ["ok"]


def test_an_overlay_whose_sound_card_did_not_come_is_told(root: Path) -> None:
    write(root, "boot/config.txt", "[all]\n dtoverlay = googlevoicehat-soundcard,param # the old place\n")
    write(root, "proc/asound/cards", OWN)
    assert "asks for googlevoicehat-soundcard" in only(board.hats(root, "aiy-voice-hat")).said
    write(root, "proc/asound/cards", OWN + "\n 2 [sndrpigooglevoi]: RPi-simple - googlevoicehat-soundcard")
    assert list(board.hats(root, "aiy-voice-hat")) == []


def test_every_overlay_of_a_shipped_board_is_known() -> None:
    assert set(board.BOARD_OVERLAYS.values()) <= board.SOUND_OVERLAYS.keys()
    shipped = {file.stem for file in Path(board.__file__).parents[1].joinpath("boards").glob("*.yaml")}
    assert board.BOARD_OVERLAYS.keys() <= shipped


# ---------------------------------------------------------------------------------------------- memory


def test_limits_on_memory_that_have_no_effect_are_told_with_the_line_that_mends_it(root: Path) -> None:
    assert list(board.memory_limits(root)) == [], "without cgroup v2 nothing can be told"
    file = write(root, "sys/fs/cgroup/cgroup.controllers", "cpuset cpu io pids\n")
    assert "cgroup_enable=memory" in str(only(board.memory_limits(root)).mend)
    write(root, "boot/firmware/cmdline.txt", "console=tty1 root=/dev/mmcblk0p2")
    assert "/boot/firmware/cmdline.txt" in str(only(board.memory_limits(root)).mend)
    file.write_text("cpuset cpu io memory pids\n")
    assert list(board.memory_limits(root)) == []


# ------------------------------------------------------------------------------------------------ wear


@pytest.mark.parametrize(
    ("life", "reserve", "level", "said"),
    [
        ("0x01 0x02", "0x01", "ok", "used up to 20 %"),
        ("0x09 0x01", "0x01", "warn", "used up to 90 %"),
        ("0x01 0x0b", "0x01", "warn", "worn out"),
        ("0x02 0x02", "0x03", "warn", "worn out"),
    ],
)
def test_an_emmc_tells_how_worn_it_is(root: Path, life: str, reserve: str, level: str, said: str) -> None:
    write(root, "sys/block/mmcblk0/device/life_time", life + "\n")
    write(root, "sys/block/mmcblk0/device/pre_eol_info", reserve + "\n")
    write(root, "sys/block/mmcblk0boot0/device/life_time", life + "\n")
    finding = only(wear.cards(root))
    assert (finding.level, said in finding.said) == (level, True)


def test_an_sd_card_tells_nothing_and_that_is_said(root: Path) -> None:
    write(root, "sys/block/mmcblk0/device/type", "SD\n")
    assert only(wear.cards(root)).said == "mmcblk0 is an SD card, which does not tell how worn it is"


def test_a_file_system_that_found_errors_is_told_and_what_was_written_to_it(root: Path) -> None:
    write(root, "sys/fs/ext4/mmcblk0p2/errors_count", "0\n")
    write(root, "sys/fs/ext4/mmcblk0p2/lifetime_write_kbytes", "12345678\n")
    (root / "sys/fs/ext4/features").mkdir()
    assert only(wear.file_systems(root)).said == "12.3 GB were ever written to mmcblk0p2"
    write(root, "sys/fs/ext4/mmcblk0p2/errors_count", "3\n")
    wrong, _ = wear.file_systems(root)
    assert (wrong.level, wrong.mend) == ("warn", wear.CHECK)


def test_a_card_that_takes_no_writes_any_more_is_told(root: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    mounts = f"/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n/dev/mmcblk0p3 {tmp_path} ext4 ro,noatime 0 0\nx\n"
    write(root, "proc/self/mounts", mounts)
    finding = only(wear.writable(state, root))
    assert (finding.level, "mmcblk0p3" in str(finding.mend)) == ("fail", True)
    write(root, "proc/self/mounts", mounts.replace("ro,", "rw,"))
    assert list(wear.writable(state, root)) == []
    write(root, "proc/self/mounts", mounts.replace("/ ext4 rw", "/ ext4 ro").replace("ro,noatime 0 0\nx", "rw 0 0"))
    assert list(wear.writable(state, root)) == [], "the system itself may be read-only"


def test_swap_on_a_card_is_told_and_swap_in_memory_is_not(root: Path) -> None:
    head = "Filename Type Size Used Priority\n"
    write(root, "proc/self/mounts", "/dev/mmcblk0p2 / ext4 rw 0 0\n")
    write(root, "proc/swaps", head + "/dev/zram0 partition 524284 0 100\n")
    assert list(wear.swap(root)) == []
    write(root, "proc/swaps", head + "/var/swap file 524284 0 -2\n")
    assert only(wear.swap(root)).mend == wear.NO_SWAP
    write(root, "proc/self/mounts", "/dev/nvme0n1p2 / ext4 rw 0 0\n")
    assert list(wear.swap(root)) == []


# ----------------------------------------------------------------------------------------------- units


def unit(name: str = "roomtone.service", **keys: str) -> str:
    known = {"Id": name, "LoadState": "loaded", "ActiveState": "active", "Result": "success", "NRestarts": "0"}
    return "".join(f"{key}={value}\n" for key, value in {**known, "UnitFileState": "enabled", **keys}.items())


@pytest.mark.parametrize(
    ("keys", "level", "said"),
    [
        ({}, "ok", "roomtone runs"),
        ({"ActiveState": "failed", "Result": "exit-code"}, "fail", "ended with an error"),
        ({"ActiveState": "failed", "Result": "oom-kill"}, "fail", "more memory than there is"),
        ({"ActiveState": "activating", "NRestarts": "7", "Result": "watchdog"}, "fail", "again and again (7 times)"),
        ({"ActiveState": "active", "NRestarts": "4"}, "warn", "was restarted 4 times"),
        ({"ActiveState": "inactive"}, "fail", "does not run"),
        ({"ActiveState": "active", "UnitFileState": "disabled"}, "warn", "will not after the next power cut"),
    ],
)
def test_how_a_unit_is_is_told_in_plain_words(
    root: Path, tmp_path: Path, keys: dict[str, str], level: str, said: str
) -> None:
    found = list(units.look(tmp_path, root, lambda words: unit(**keys)))
    assert level in levels(found)
    assert any(said in finding.said for finding in found)
    assert all(finding.mend for finding in found if finding.level != "ok")


def test_a_hub_that_failed_does_not_keep_the_room_from_working(root: Path, tmp_path: Path) -> None:
    text = unit() + "\n" + unit("roomtone-hub.service", ActiveState="failed", Result="signal")
    found = list(units.look(tmp_path, root, lambda words: text))
    assert [(finding.level, finding.said) for finding in found] == [
        ("ok", "roomtone runs"),
        ("warn", "roomtone-hub has failed: it crashed"),
    ]


@pytest.mark.parametrize("said", [None, "", "nonsense", unit(LoadState="not-found")])
def test_where_there_is_no_service_nothing_is_told_of_one(root: Path, tmp_path: Path, said: str | None) -> None:
    assert list(units.look(tmp_path, root, lambda words: said)) == []


def test_a_timer_that_is_off_is_told(root: Path, tmp_path: Path) -> None:
    text = unit("roomtone-maintenance.timer", ActiveState="inactive")
    found = list(units.look(tmp_path, root, lambda words: text))
    assert found[0].mend == "run: sudo systemctl enable --now roomtone-maintenance.timer"


# ---------------------------------------------------------------------------------------- the installation


def installed(root: Path, version: str = "0.7.0-abc", *, complete: bool = True) -> Path:
    write(root, f"opt/roomtone/versions/{version}/venv/bin/roomtone", "")
    if complete:
        write(root, f"opt/roomtone/versions/{version}/complete", "")
    (root / "opt/roomtone/current").symlink_to(root / "opt/roomtone/versions" / version)
    return root / "opt/roomtone"


def test_which_version_is_installed_is_told_and_which_one_can_be_gone_back_to(root: Path) -> None:
    assert list(units.installation(root)) == []
    opt = installed(root)
    assert only(units.installation(root)).said == "0.7.0-abc"
    write(root, "opt/roomtone/versions/0.6.0-def/complete", "")
    (opt / "previous").symlink_to(opt / "versions/0.6.0-def")
    assert only(units.installation(root)).said == "0.7.0-abc, and 0.6.0-def to go back to"


def test_an_upgrade_that_was_not_finished_is_told(root: Path) -> None:
    (installed(root) / "trial").touch()
    first, _ = units.installation(root)
    assert (first.level, first.mend) == ("warn", "run: sudo systemctl start roomtone-trial")


def test_an_installation_that_is_not_whole_is_told(root: Path) -> None:
    opt = installed(root, complete=False)
    assert only(units.installation(root)).level == "warn"
    (opt / "current").unlink()
    (opt / "current").symlink_to(opt / "versions/gone")
    assert only(units.installation(root)).level == "fail"


# ----------------------------------------------------------------------------------------- the maintenance


def told(state: Path, *lines: Line) -> None:
    maintenance.keep(state, Outcome(NOW, lines))


def test_how_the_last_night_went_is_told(tmp_path: Path) -> None:
    assert list(units.nights(tmp_path, NOW, expected=False)) == []
    assert only(units.nights(tmp_path, NOW, expected=True)).level == "ok"
    told(tmp_path, Line("store", True, "sound"))
    assert only(units.nights(tmp_path, NOW, expected=True)).said.startswith("all was well")
    told(tmp_path, Line("store", True, "sound"), Line("backup", False, "there is no room for it", "make room"))
    night = only(units.nights(tmp_path, NOW, expected=True))
    assert (night.said, night.mend) == ("backup: there is no room for it", "make room")
    told(tmp_path, Line("backup", False, "there is no room for it"))
    assert only(units.nights(tmp_path, NOW, expected=True)).mend == units.AGAIN


def test_nights_without_maintenance_are_told(tmp_path: Path) -> None:
    told(tmp_path)
    later = NOW + timedelta(days=5)
    assert only(units.nights(tmp_path, later, expected=True)).level == "warn"
    assert only(units.nights(tmp_path, later, expected=False)).level == "ok"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"at": 3}', '{"at": "yesterday"}', "\0"])
def test_an_outcome_that_cannot_be_read_is_told(tmp_path: Path, content: str) -> None:
    (tmp_path / "maintenance.json").write_text(content)
    assert only(units.nights(tmp_path, NOW, expected=True)).level == "warn"


# ---------------------------------------------------------------------------------------------- what mends


def test_every_command_of_roomtones_own_that_mends_something_is_there() -> None:
    sources = [file.read_text("utf-8") for file in Path(board.__file__).parent.glob("*.py")]
    named = {name for source in sources for name in re.findall(r"(?:: |sudo |\()roomtone ([a-z][a-z-]*)", source)}
    assert {"backup", "models", "doctor", "run"} <= named
    assert named <= COMMANDS.keys()


# ------------------------------------------------------------------------------------------ asking programs


def test_a_program_that_is_not_there_or_fails_says_nothing() -> None:
    assert board.ask(["/nowhere/vcgencmd"]) is None
    assert board.ask(["false"]) is None
    assert board.ask(["printf", "x"]) == "x"


def test_this_very_machine_can_be_looked_at(tmp_path: Path) -> None:
    found = [*board.look("none"), *wear.look(tmp_path), *units.look(tmp_path)]
    assert {"board", "system"} <= {finding.subject for finding in found}
