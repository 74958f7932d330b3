"""The embedding seam: texts in, normalised vectors out. No engine of it ships yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

AUTO: tuple[str, ...] = ()


class Embed(Protocol):
    """An embedder."""

    async def embed(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Return one normalised row a text: shape (n, d)."""
