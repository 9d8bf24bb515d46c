"""The pages that the tests here read."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def pages() -> dict[str, str]:
    """Every page of the documentation by its path from the root."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("benchmarks/*.md")]
    return {str(page.relative_to(ROOT)): page.read_text() for page in sorted(found)}
