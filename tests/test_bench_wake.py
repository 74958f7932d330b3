"""What the bench says of wake words."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Run
from roomtone.bench import wake
from roomtone.core.errors import UsageError
from roomtone.core.sound import encode_wav
from roomtone.engines.wake.microwakeword import shipped_models
from speech import said

pytestmark = pytest.mark.skipif(not shipped_models(), reason="pip install 'roomtone[wake]'")


def test_calls_are_found_and_what_is_no_call_is_not(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        texts = {"alexa": "wake", "okay nabu": "wake", "computer": "wake", "what time is it": "command"}
        rows = ["file,kind,transcript", "gone.wav,wake,"]
        for number, (text, kind) in enumerate(texts.items()):
            (tmp_path / f"{number}.wav").write_bytes(encode_wav(await said(text, "en-gb")))
            rows.append(f"{number}.wav,{kind},{text}")
        (tmp_path / "manifest.csv").write_text("\n".join(rows))
        figures = {figure.name: figure for figure in await wake.measure(tmp_path)}
        found, false = figures["wake_found"], figures["wake_false"]
        assert ((found.value, found.n), (false.value, false.n)) == ((100, 2), (0, 2))
        assert figures["wake_cpu"].value is not None

    run(scenario())


def test_a_folder_without_a_manifest_is_refused(run: Run[None], tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(UsageError, match=r"manifest\.csv"):
            await wake.measure(tmp_path)

    run(scenario())
