"""The rules of fading against exact values (tests/vectors/trace_store_golden.json)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from afterglow.keep import decay

VECTORS = Path(__file__).resolve().parents[1] / "vectors" / "trace_store_golden.json"
GOLDEN: dict[str, Any] = msgspec.json.decode(VECTORS.read_bytes())
RULES = {
    "decay": decay.strength,
    "reinforce": decay.reinforced,
    "score": decay.score,
    "tier": decay.tier,
    "valence": decay.valence,
    "intensity": decay.intensity,
}


@pytest.mark.parametrize("rule", RULES)
def test_each_rule_gives_exactly_the_golden_values(rule: str) -> None:
    rows = GOLDEN[rule]
    assert rows, "no values for this rule"
    for *arguments, expected in rows:
        assert RULES[rule](*arguments) == expected, arguments


def test_every_column_of_the_vectors_has_a_rule() -> None:
    assert GOLDEN["columns"].keys() == RULES.keys()
