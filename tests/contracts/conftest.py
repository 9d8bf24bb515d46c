from __future__ import annotations

import pytest

from tests.contracts.segment_backends import BACKENDS, Backend


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> Backend:
    """Each back end of SegmentBuffer in turn."""
    return BACKENDS[request.param](request)
