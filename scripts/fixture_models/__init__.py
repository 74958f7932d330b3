"""How the small models in tests/models are made, so that tests run the real engines on files made by ourselves."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent.parent.parent / "tests" / "models"
"""Where they lie, laid out as a models folder is."""
