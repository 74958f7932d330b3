"""The embedding seam: texts in, normalised vectors out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

AUTO: tuple[str, ...] = ("onnx",)


class Embed(Protocol):
    """An embedder. ``name`` says which: vectors of different ones cannot be compared."""

    name: str

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one normalised row a text: shape (n, d). One that says nothing may have a row of zeros."""
