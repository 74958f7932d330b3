"""Make the small models in tests/models anew, or measure the recogniser that is there.

    pip install --group fixtures --editable .
    python scripts/make_fixture_models.py {piper,whisper,embed,chat,adapter,all,measure}

Steps and seeds are fixed: two runs on one machine with the same libraries give the same bytes. One thread is used;
the voices take a second, the recogniser 22 CPU minutes, the chat model 3 and its adapter 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fixture_models import FOLDER
from fixture_phrases import HELD_OUT_VOICES, PHRASES

MANIFEST = FOLDER / "manifest.json"
WHISPER = Path("whisper/fixture")
CHAT = Path("llama/fixture-chat-q8_0.gguf")
ADAPTER = Path("llama/fixture-butler-lora.gguf")
EMBED = Path("embed/fixture")
LIBRARIES = {
    "embed": ("numpy", "onnx", "tokenizers"),
    "piper": ("onnx", "piper-tts"),
    "whisper": ("torch", "ctranslate2", "tokenizers", "faster-whisper", "espeakng-loader", "soxr", "numpy"),
    "chat": ("torch", "tokenizers", "gguf"),
    "adapter": ("torch", "tokenizers", "gguf"),
}


def make_piper() -> None:
    from fixture_models import voices

    voices.make(FOLDER / "piper")
    note("piper", [*(FOLDER / "piper").iterdir()], {"seed": voices.SEED})


def make_whisper() -> None:
    from fixture_models import whisper

    recipe = whisper.Recipe(PHRASES)
    whisper.make(recipe, sorted((FOLDER / "piper").glob("*.onnx")), FOLDER / WHISPER)
    measured_by = {"phrases": PHRASES, "voices": HELD_OUT_VOICES}
    (FOLDER / WHISPER / "phrases.json").write_text(json.dumps(measured_by, indent=1) + "\n")  # for the bench
    made_of = {
        "seed": recipe.seed,
        "steps": [phase.steps for phase in recipe.phases],
        "phrases": fingerprint(PHRASES),
    }
    note("whisper", [*(FOLDER / WHISPER).iterdir()], made_of)


def make_chat() -> None:
    from fixture_models import chat, chat_talk

    chat.make(FOLDER / CHAT)
    note(
        "chat", [FOLDER / CHAT], {"seed": chat.SEED, "steps": chat.STEPS, "phrases": fingerprint(chat_talk.corpus())}
    )


def make_adapter() -> None:
    from fixture_models import adapter, chat_talk

    adapter.make(FOLDER / CHAT, FOLDER / ADAPTER)
    made_of = {
        "seed": adapter.SEED,
        "steps": adapter.STEPS,
        "phrases": fingerprint([*chat_talk.butler_answers().values()]),
    }
    note("adapter", [FOLDER / ADAPTER], made_of)


def make_embed() -> None:
    from fixture_models import embedder

    embedder.make(FOLDER / EMBED)
    note("embed", [*(FOLDER / EMBED).iterdir()], {"seed": embedder.SEED, "words": fingerprint([*embedder.MEANINGS])})


def measure() -> None:
    from fixture_models import hearing

    hearing.measure(FOLDER / WHISPER, PHRASES, HELD_OUT_VOICES, sorted((FOLDER / "piper").glob("*.onnx")))


def note(kind: str, files: list[Path], made_of: dict[str, Any]) -> None:
    """Write down how a model was made and what came of it."""
    manifest = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    manifest[kind] = {
        **made_of,
        "libraries": {name: version(name) for name in LIBRARIES[kind]},
        "sha256": {
            str(file.relative_to(FOLDER)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)
        },
    }
    MANIFEST.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def fingerprint(phrases: list[str]) -> str:
    """Return what tells whether a model was trained on other phrases than these."""
    return hashlib.sha256("\n".join(phrases).encode()).hexdigest()


MAKING = {
    "piper": make_piper,
    "whisper": make_whisper,
    "embed": make_embed,
    "chat": make_chat,
    "adapter": make_adapter,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=[*MAKING, "all", "measure"])
    what = parser.parse_args().what
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # read when the libraries are imported
    if what == "measure":
        return measure()
    for make in MAKING.values() if what == "all" else [MAKING[what]]:
        make()
    return None


if __name__ == "__main__":
    main()
