"""The disk of a room: a small Debian with Roomtone installed by its own installer, made once and kept."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "roomtone" / "power-cuts"
SUITE = "trixie"
"""What Raspberry Pi OS is made of now."""

DISK_MB = 2000

NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "cpio": "cpio",
    "e2fsck": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "xz": "xz-utils",
}
"""Programs, and the packages of Debian that they are in."""

INSTALLED = (
    *("src", "personas", "models", "systemd", "pyproject.toml", "README.md", "LICENSE", "requirements-install.lock"),
    *("scripts/install.sh", "scripts/install-version.sh", "scripts/llama-wheel"),
)
"""What the installer needs of a checkout."""

KERNEL = "linux-image-cloud-amd64"
"""Small, and its disks and file systems are those of a virtual machine."""

MASKED = (
    *("getty@.service", "serial-getty@.service", "systemd-firstboot.service", "systemd-timesyncd.service"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "fstrim.timer"),
    *("systemd-udevd.service", "systemd-udev-trigger.service", "systemd-hwdb-update.service", "ldconfig.service"),
    *("systemd-journal-catalog-update.service", "systemd-logind.service", "dbus.service", "dbus.socket"),
    *(
        "systemd-networkd.service",
        "systemd-networkd.socket",
        "systemd-udevd-control.socket",
        "systemd-udevd-kernel.socket",
    ),
    *("systemd-networkd-persistent-storage.service", "systemd-user-sessions.service", "systemd-update-done.service"),
    *(
        "modprobe@.service",
        "kmod-static-nodes.service",
        "systemd-remount-fs.service",
        "systemd-journal-flush.service",
    ),
    *("systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup-dev-early.service", "systemd-sysusers.service"),
    *("systemd-random-seed.service", "systemd-udev-load-credentials.service", "systemd-sysctl.service"),
    *("dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount"),
    *("sys-fs-fuse-connections.mount", "sys-kernel-config.mount", "systemd-modules-load.service"),
    "roomtone-first-boot.service",
)
"""What a room does not need, and an emulated processor would spend half of its start on."""

FILES = {
    "etc/roomtone/config.yaml": (
        "audio: {engine: wav}\nstt: {engine: script}\nlisten: {mode: button}\ntime_zone: UTC\n"
    ),
    "etc/fstab": "/dev/vda / ext4 defaults,noatime,commit=30 0 0\n",
    "etc/hostname": "kitchen\n",
    "etc/machine-id": "uninitialized\n",
    "etc/systemd/journald.conf.d/power-cuts.conf": (
        "[Journal]\nStorage=volatile\nForwardToConsole=yes\nMaxLevelConsole=info\nTTYPath=/dev/ttyS0\n"
    ),
    # Where others use this machine as well, an emulated processor may stand still for longer than a room may hang.
    "etc/systemd/system/roomtone.service.d/power-cuts.conf": "[Service]\nWatchdogSec=0\nTimeoutStartSec=infinity\n",
    "etc/systemd/system/power-cuts-found.service": (
        "[Unit]\nBefore=roomtone.service\nAfter=local-fs.target\n"
        "[Service]\nType=oneshot\nExecStart=/usr/bin/python3 /opt/power-cuts.py found\n"
    ),
    "etc/systemd/system/power-cuts-talk.service": (
        "[Unit]\nAfter=roomtone.service\n[Service]\nType=exec\nExecStart=/usr/bin/python3 /opt/power-cuts.py talk\n"
    ),
}
"""What is laid over the root. It has no sound card: it speaks into a file that nobody keeps, and hears nothing."""

INIT = """#!/bin/busybox sh
B=/bin/busybox
$B mount -t proc p /proc
$B mount -t devtmpfs d /dev
$B insmod /virtio_blk.ko
i=0
while [ ! -b /dev/vda ] && [ $i -lt 50 ]; do $B sleep 0.1; i=$((i+1)); done
$B mount -t ext4 -o noatime,commit=30 /dev/vda /newroot || $B poweroff -f
$B umount /proc
$B mount --move /dev /newroot/dev
exec $B switch_root /newroot /lib/systemd/systemd
"""


@dataclass(frozen=True, slots=True)
class Made:
    """A disk with a room on it, and the kernel to start it with."""

    disk: Path
    kernel: Path
    initramfs: Path


def lacking() -> list[str]:
    """Return the packages of Debian that are lacking here."""
    return sorted({package for program, package in NEEDED.items() if shutil.which(program) is None})


def made(disk: Path | None = None) -> Made:
    """Return the disk of a room as this checkout is, or one that was made before; make what is not there yet.

    Raises subprocess.CalledProcessError where a step fails; what it said stands above.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    kernel, initramfs = CACHE / "vmlinuz", CACHE / "initramfs.gz"
    if not initramfs.exists():
        _make_kernel(kernel, initramfs)
    return Made(disk or _installed(), kernel, initramfs)


def _make_kernel(kernel: Path, initramfs: Path) -> None:
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        root, start = Path(name) / "root", Path(name) / "start"
        _unpack(root)
        real = f"$(apt-cache depends {KERNEL} | sed -n 's/.*Depends: //p')"
        _chroot(root, f"apt-get -qq update && cd /tmp && apt-get -qq download {real} && dpkg -x linux-image-*.deb it")
        for folder in ("bin", "proc", "dev", "newroot"):
            (start / folder).mkdir(parents=True)
        (module,) = root.glob("tmp/it/usr/lib/modules/*/kernel/drivers/block/virtio_blk.ko.xz")
        (vmlinuz,) = root.glob("tmp/it/boot/vmlinuz-*")
        _run(f"xz -dc {module} > {start}/virtio_blk.ko && cp $(command -v busybox) {start}/bin")
        (start / "init").write_text(INIT)
        (start / "init").chmod(0o755)
        _run(f"cd {start} && find . | cpio --quiet -o -H newc | gzip -1 > {initramfs}.part")
        vmlinuz.rename(kernel)
        Path(f"{initramfs}.part").rename(initramfs)


def _installed() -> Path:
    """Return a disk on which this checkout is installed; it is made anew where anything that is installed changed."""
    disk = CACHE / f"room-{_fingerprint()}.img"
    if disk.exists():
        return disk
    print(f"-- installing into {disk}: minutes, once", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=CACHE) as name:
        root = Path(name)
        _unpack(root)
        copy = root / "root" / "roomtone"
        _run(f"mkdir -p {copy} && cd {ROOT} && cp -r --parents {' '.join(INSTALLED)} {copy}")
        _chroot(root, "/root/roomtone/scripts/install.sh install")
        _run(f"rm -rf {copy} {root}/var/cache/apt/archives/*.deb")
        lay_over(root)
        _run(f"mke2fs -q -t ext4 -d {root} {disk}.part {DISK_MB}M")
    for old in CACHE.glob("room-*.img"):
        old.unlink()
    Path(f"{disk}.part").rename(disk)
    return disk


def lay_over(root: Path) -> None:
    """Make a root that of a machine which is talked with as soon as it is up."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    shutil.copy(HERE / "guest.py", root / "opt" / "power-cuts.py")
    units = root / "etc" / "systemd" / "system"
    for unit in MASKED:
        _link(units / unit, "/dev/null")
    for unit in ("power-cuts-found.service", "power-cuts-talk.service"):
        _link(units / "multi-user.target.wants" / unit, f"../{unit}")


def _link(link: Path, target: str) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _fingerprint() -> str:
    known = hashlib.sha256()
    for name in (*INSTALLED, "scripts/power_cuts"):
        for path in sorted((ROOT / name).rglob("*") if (ROOT / name).is_dir() else [ROOT / name]):
            if path.is_file() and path.suffix != ".pyc":
                known.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return known.hexdigest()[:8]


def _unpack(root: Path) -> None:
    debian = _run(f"bash {ROOT}/scripts/debian-root {SUITE}")
    root.mkdir(exist_ok=True)
    _run(f"tar -C {root} -xf {debian} --exclude='./dev/*'")
    for name in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"):
        if Path(name).exists():
            shutil.copy(name, root / name[1:])


def _chroot(root: Path, command: str) -> None:
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    inside = (
        f"mount --bind /dev {root}/dev && mount -t proc p {root}/proc && exec nice chroot {root} env -i HOME=/root"
    )
    variables = f"PATH=/usr/sbin:/usr/bin:/sbin:/bin PIP_CERT={certificates}"
    subprocess.run(["unshare", "--mount", "sh", "-c", f'{inside} {variables} sh -c "$1"', "-", command], check=True)


def _run(command: str) -> str:
    return subprocess.run(["sh", "-ec", command], check=True, text=True, stdout=subprocess.PIPE).stdout.strip()
