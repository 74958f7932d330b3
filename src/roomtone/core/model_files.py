"""What a model's files look like from outside, so that a wrong or cut one is told before an engine meets it.

Nothing of a model is loaded: only the frames around its contents are walked. Formats: CTranslate2's model.bin as its
``ModelSpec`` writes it (binary version 6), and ONNX's ``ModelProto`` as Protocol Buffers encode it.
"""

from __future__ import annotations

import json
from mmap import mmap
from typing import Any

Buffer = bytes | mmap

CT2_VERSION = 6
"""The binary version whose frame is walked. Others only have their head looked at."""

IR_VERSION, GRAPH, LAST_FIELD = 1, 7, 25
"""Numbers of fields of ONNX's ModelProto: the two that every model has, and the last."""


class Flawed(ValueError):
    """A file is not what it should be; says so in a few words that follow the file's name."""


def check_json(content: bytes) -> Any:
    """Return what a JSON file holds. Raises Flawed where it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Flawed("is not JSON, or is cut short") from None


def check_voice(config: Any) -> None:
    """Look whether a Piper voice's JSON has what the synthesiser needs. Raises Flawed."""
    if not isinstance(config, dict):
        raise Flawed("is not a Piper voice's configuration")
    audio, espeak = config.get("audio"), config.get("espeak")
    rate = audio.get("sample_rate") if isinstance(audio, dict) else None
    if not isinstance(rate, int) or not 8000 <= rate <= 48000:
        raise Flawed("names no sample rate (audio.sample_rate)")
    if not isinstance(espeak, dict) or not isinstance(espeak.get("voice"), str):
        raise Flawed("names no language (espeak.voice)")
    phonemes = config.get("phoneme_id_map")
    if not isinstance(phonemes, dict) or not phonemes:
        raise Flawed("has no phonemes (phoneme_id_map)")
    for key in ("num_symbols", "num_speakers"):
        if not isinstance(config.get(key), int):
            raise Flawed(f"has no {key}")


def check_ct2(content: Buffer) -> None:
    """Look whether a file's content is a whole Whisper model of CTranslate2's. Raises Flawed."""
    if bytes(content[:2]) == b"PK" or bytes(content[:1]) == b"\x80":
        raise Flawed("is a PyTorch file, which is never loaded; convert it with ct2-transformers-converter")
    walk = _Walk(content)
    version = walk.number(4)
    if not 1 <= version <= 99:
        raise Flawed("is not a CTranslate2 model")
    name = walk.text()
    if not name.startswith("Whisper"):
        raise Flawed(f"is a CTranslate2 model of another kind ({name[:40] or 'unnamed'}), not Whisper's")
    if version == CT2_VERSION:
        _walk_ct2(walk)


def _walk_ct2(walk: _Walk) -> None:
    """Step over the revision, every variable and every alias, to the end of the file."""
    walk.step(4)
    for _ in range(walk.number(4)):
        walk.text()
        walk.step(4 * walk.number(1) + 1)  # as many dimensions, and the type
        walk.step(walk.number(4))
    for _ in range(2 * walk.number(4)):
        walk.text()


def check_onnx(content: Buffer) -> None:
    """Look whether a file's content is a whole ONNX model. Raises Flawed."""
    walk, seen = _Walk(content), set()
    while not walk.ended:
        tag = walk.varint()
        number, wire = tag >> 3, tag & 7
        if not 1 <= number <= LAST_FIELD or wire not in (0, 1, 2, 5):
            raise Flawed("is not an ONNX model")
        seen.add(number)
        step = walk.varint() if wire in (0, 2) else 0
        walk.step({0: 0, 1: 8, 2: step, 5: 4}[wire])
    if not {IR_VERSION, GRAPH} <= seen:
        raise Flawed("is not an ONNX model, or is cut short")


class _Walk:
    """A place in a file's content that only moves on. What lies behind the end raises Flawed."""

    def __init__(self, content: Buffer) -> None:
        self._content = content
        self._at = 0

    @property
    def ended(self) -> bool:
        return self._at >= len(self._content)

    def step(self, count: int) -> None:
        self._at += count
        if self._at > len(self._content):
            raise Flawed("is cut short")

    def number(self, count: int) -> int:
        """Read an unsigned little-endian number of ``count`` bytes."""
        start = self._at
        self.step(count)
        return int.from_bytes(self._content[start : self._at], "little")

    def text(self) -> str:
        """Read a text with its length, two bytes, before it."""
        length = self.number(2)
        start = self._at
        self.step(length)
        return bytes(self._content[start : self._at]).rstrip(b"\0").decode("utf-8", "replace")

    def varint(self) -> int:
        """Read a number as Protocol Buffers write it, seven bits a byte."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self.number(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise Flawed("is not an ONNX model")
