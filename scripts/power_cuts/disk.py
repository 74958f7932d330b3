"""A disk that loses its power as a cheap card does: what was not flushed is kept, lost or torn.

It lives in another process than the virtual machine, so that both can lose their power at one moment. Writes are
held in memory until the machine asks for a flush, or says of one that it must reach the medium (FUA).
Protocol: https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md (newstyle, fixed; one export).
"""

from __future__ import annotations

import os
import random
import socket
import struct
import threading
from dataclasses import dataclass, field
from pathlib import Path

SECTOR = 512
"""Bytes that a medium writes whole or not at all."""

HAS_FLAGS, SEND_FLUSH, SEND_FUA = 1 << 0, 1 << 2, 1 << 3
FIXED_NEWSTYLE, NO_ZEROES = 1 << 0, 1 << 1
MAGIC, OPTION_MAGIC, REPLY_MAGIC = 0x4E42444D41474943, 0x49484156454F5054, 0x3E889045565A9
EXPORT_NAME, ABORT, INFO, GO = 1, 2, 6, 7
ACKNOWLEDGED, INFORMATION, UNSUPPORTED = 1, 3, (1 << 31) | 1
READ, WRITE, HANG_UP, FLUSH = 0, 1, 2, 3
FUA = 1 << 0
REQUEST = struct.Struct(">IHHQQI")
"""Magic, flags, kind, handle, offset, length."""

REQUEST_MAGIC, SIMPLE_REPLY_MAGIC = 0x25609513, 0x67446698
EINVAL = 22


@dataclass(frozen=True, slots=True)
class Write:
    """One write that the medium has not confirmed: ``offset`` in bytes, whole sectors."""

    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """What became of the writes that were not flushed when the power went."""

    kept: int
    lost: int
    torn: int


@dataclass(slots=True)
class Disk:
    """An image file and the writes that wait in the disk's own memory. ``written`` counts bytes handed over by then.

    A read sees what waits. Not flushed means: may be kept, in whatever order, or not.
    """

    file: int
    size: int
    waiting: list[Write] = field(default_factory=list)
    written: int = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes as the machine wrote them last."""
        found = bytearray(os.pread(self.file, length, offset))
        found.extend(bytes(length - len(found)))
        for write in self.waiting:
            begin, end = max(offset, write.offset), min(offset + length, write.offset + len(write.data))
            if begin < end:
                found[begin - offset : end - offset] = write.data[begin - write.offset : end - write.offset]
        return bytes(found)

    def write(self, offset: int, data: bytes, *, through: bool = False) -> None:
        """Take a write; ``through``: it is on the medium when this returns, with what waits of those sectors."""
        self.written += len(data)
        if not through:
            self.waiting.append(Write(offset, data))
            return
        end = offset + len(data)
        overlapping = [
            write for write in self.waiting if write.offset < end and offset < write.offset + len(write.data)
        ]
        for write in overlapping:
            os.pwrite(self.file, write.data, write.offset)
        os.pwrite(self.file, data, offset)
        self.waiting = [write for write in self.waiting if write not in overlapping]

    def flush(self) -> None:
        """Put all that waits on the medium."""
        for write in self.waiting:
            os.pwrite(self.file, write.data, write.offset)
        self.waiting.clear()

    def cut(self, chance: random.Random) -> Cut:
        """Lose the power: each write that waits is kept, lost or torn, as chance has it; return how many were.

        How much of its memory a medium still gets rid of differs from cut to cut: from nothing to all but the last.
        """
        writes, self.waiting = self.waiting, []
        keeps = chance.choice((0.0, 0.25, 0.5, 0.75, 1.0))
        fates = ["kept" if chance.random() < keeps else "lost" for _ in writes]
        if writes:
            fates[-1] = "torn"
        for write, fate in zip(writes, fates, strict=True):
            whole = len(write.data) // SECTOR
            sectors = {"kept": whole, "lost": 0, "torn": chance.randrange(whole + 1)}[fate]
            os.pwrite(self.file, write.data[: sectors * SECTOR], write.offset)
        os.fsync(self.file)
        return Cut(*(fates.count(fate) for fate in ("kept", "lost", "torn")))


class Server:
    """Serves one disk to one machine at a time on a Unix socket, on a thread of its own, until closed."""

    def __init__(self, image: Path, path: Path) -> None:
        self.path = path
        file = os.open(image, os.O_RDWR | os.O_CLOEXEC)
        self.disk = Disk(file, os.fstat(file).st_size)
        self._lock = threading.Lock()
        self._unused = threading.Event()
        self._unused.set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path.unlink(missing_ok=True)
        self._socket.bind(str(path))
        self._socket.listen(1)
        self._thread = threading.Thread(target=self._accept, name="disk", daemon=True)
        self._thread.start()

    def cut(self, chance: random.Random) -> Cut:
        """Lose the power: see ``Disk.cut``. The machine must be dead: what it sent until then is taken first."""
        self._unused.wait()
        with self._lock:
            return self.disk.cut(chance)

    @property
    def written(self) -> int:
        """Bytes that the machine has written so far."""
        with self._lock:
            return self.disk.written

    def close(self) -> None:
        """Serve nobody any more."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
        os.close(self.disk.file)

    def _accept(self) -> None:
        while True:
            try:
                machine, _ = self._socket.accept()
            except OSError:
                return
            self._unused.clear()
            with machine:
                try:
                    if greet(machine, self.disk.size):
                        self._serve(machine)
                except ConnectionError:
                    continue  # a machine that was killed says no goodbye
                finally:
                    self._unused.set()

    def _serve(self, machine: socket.socket) -> None:
        while True:
            _, flags, kind, handle, offset, length = REQUEST.unpack(exactly(machine, REQUEST.size))
            if kind == HANG_UP:
                return
            data = exactly(machine, length) if kind == WRITE else b""
            with self._lock:
                answer, error = self._done(kind, offset, length, data, through=bool(flags & FUA))
            machine.sendall(struct.pack(">IIQ", SIMPLE_REPLY_MAGIC, error, handle) + answer)

    def _done(self, kind: int, offset: int, length: int, data: bytes, *, through: bool) -> tuple[bytes, int]:
        if kind == READ:
            return self.disk.read(offset, length), 0
        if kind == WRITE:
            self.disk.write(offset, data, through=through)
        elif kind == FLUSH:
            self.disk.flush()
        else:
            return b"", EINVAL
        return b"", 0


def greet(machine: socket.socket, size: int) -> bool:
    """Agree on the protocol with who connected; False where it only asked. Raises ConnectionError."""
    machine.sendall(struct.pack(">QQH", MAGIC, OPTION_MAGIC, FIXED_NEWSTYLE | NO_ZEROES))
    (agreed,) = struct.unpack(">I", exactly(machine, 4))
    export = struct.pack(">QH", size, HAS_FLAGS | SEND_FLUSH | SEND_FUA)
    while True:
        _, option, length = struct.unpack(">QII", exactly(machine, 16))
        exactly(machine, length)
        if option == EXPORT_NAME:
            machine.sendall(export + (b"" if agreed & NO_ZEROES else bytes(124)))
            return True
        if option in (INFO, GO):
            _reply(machine, option, INFORMATION, struct.pack(">H", 0) + export)
            _reply(machine, option, ACKNOWLEDGED)
            if option == GO:
                return True
        else:
            _reply(machine, option, ACKNOWLEDGED if option == ABORT else UNSUPPORTED)
            if option == ABORT:
                return False


def _reply(machine: socket.socket, option: int, kind: int, data: bytes = b"") -> None:
    machine.sendall(struct.pack(">QIII", REPLY_MAGIC, option, kind, len(data)) + data)


def exactly(machine: socket.socket, length: int) -> bytes:
    """Return so many bytes. Raises ConnectionError where the other end hung up before."""
    found = bytearray()
    while len(found) < length:
        piece = machine.recv(length - len(found))
        if not piece:
            raise ConnectionResetError("the machine hung up")
        found += piece
    return bytes(found)
