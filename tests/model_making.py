"""Small models in the formats of real ones, made of nothing, and what tests of models share."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from model_hub_server import Hub, serving
from roomtone import cli
from roomtone.model_supply import catalogue, fetching

VOICE = {
    "audio": {"sample_rate": 16000},
    "espeak": {"voice": "en-us"},
    "num_symbols": 3,
    "num_speakers": 1,
    "phoneme_id_map": {"a": [1]},
}
NAME = "en_US-amy-low"
SMALL = "whisper-tiny.en"


def text(value: str) -> bytes:
    content = value.encode() + b"\0"
    return struct.pack("<H", len(content)) + content


def ct2(spec: str = "WhisperSpec", weights: bytes = bytes(range(200)) * 50) -> bytes:
    """A model of one variable, as CTranslate2 writes it."""
    variable = text("encoder/w") + struct.pack("<BIBI", 1, len(weights), 1, len(weights)) + weights
    alias = text("decoder/w") + text("encoder/w")
    head = struct.pack("<I", 6) + text(spec)
    return head + struct.pack("<II", 3, 1) + variable + struct.pack("<I", 1) + alias


def onnx(graph: bytes = b"g" * 300) -> bytes:
    """A model's outer frame: its version, who made it, its graph."""
    return b"\x08\x08" + b"\x12\x04here" + b"\x3a" + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph


def gguf(*values: tuple[str, int, bytes], tensor: int = 0, data: bytes = bytes(64)) -> bytes:
    """A model of one tensor of 32 numbers, its type given, with some values in its head."""

    def word(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    head = b"GGUF" + struct.pack("<IQQ", 3, 1, len(values))
    head += b"".join(word(key) + struct.pack("<I", kind) + value for key, kind, value in values)
    head += word("token_embd.weight") + struct.pack("<IQIQ", 1, 32, tensor, 0)
    return head + bytes(-len(head) % 32) + data


def gguf_words(*words: str) -> bytes:
    """A list of words, as a value in the head of a GGUF file."""
    return struct.pack("<IQ", 8, len(words)) + b"".join(struct.pack("<Q", len(w)) + w.encode() for w in words)


def gguf_word(word: str) -> bytes:
    return struct.pack("<Q", len(word)) + word.encode()


ARCHITECTURE = ("general.architecture", 8, gguf_word("llama"))
WEIGHTS = gguf(
    ARCHITECTURE,
    ("llama.context_length", 4, struct.pack("<I", 4096)),
    ("tokenizer.ggml.tokens", 9, gguf_words("a", "b")),
    ("tokenizer.ggml.scores", 9, struct.pack("<IQff", 6, 2, 0, 0)),
    data=bytes(128),
)
WHISPER = {"config.json": b"{}", "model.bin": ct2(), "tokenizer.json": b'{"model": 1}', "vocabulary.txt": b"a\nb\n"}
WAKE = {
    "stop.json": b'{"type": "micro", "model": "stop.tflite", "micro": '
    b'{"probability_cutoff": 0.5, "sliding_window_size": 5}}',
    "stop.tflite": b"\x1c\0\0\0TFL3" + bytes(100),
}
PIPER = {f"{NAME}.onnx": onnx(), f"{NAME}.onnx.json": json.dumps(VOICE).encode()}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


class Silent:
    """A progress bar that nobody sees."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, int, int]] = []
        self.moved = 0

    def begin(self, file: str, done: int, total: int) -> None:
        self.begun.append((file, done, total))

    def move(self, count: int) -> None:
        self.moved += count


@contextmanager
def a_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub that has a small Whisper and a voice, in whose library waits between tries take no time."""
    import huggingface_hub.constants

    with serving() as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.setattr(fetching, "AGAIN_S", 0)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
        made.files |= {f"Systran/faster-whisper-tiny.en/{name}": content for name, content in WHISPER.items()}
        made.files |= {"Qwen/Qwen3-4B-GGUF/Qwen3-4B-Q4_K_M.gguf": WEIGHTS}
        made.files |= {
            "sentence-transformers/all-MiniLM-L6-v2/onnx/model.onnx": onnx(),
            "sentence-transformers/all-MiniLM-L6-v2/tokenizer.json": b"{}",
        }
        made.files |= {f"rhasspy/piper-voices/en/en_US/amy/low/{name}": content for name, content in PIPER.items()}
        yield made
        huggingface_hub.close_session()


def entry(name: str) -> catalogue.Entry:
    return catalogue.find(name, catalogue.catalogue())


def roomtone(tmp_path: Path, *words: str) -> int:
    return cli.main(["models", *words, "--state-dir", str(tmp_path / "state")])


def json_rows(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def spoil(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "absent":
        file.unlink()
    elif how == "cut":
        file.write_bytes(content[:-5])
    elif how == "longer":
        file.write_bytes(content + b"\x3a\x01x")
    else:
        file.write_bytes(content.replace(b"ggg", b"gfg").replace(b"\x01\x02\x03", b"\x01\x02\x04"))
