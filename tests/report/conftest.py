"""Every variant of the results, rendered once for all tests of the report."""

from functools import lru_cache

import pytest

from auditor.report.page import render
from auditor.report.plain import plain
from auditor.results.consistency import contradictions

from .sample import VARIANTS


@lru_cache
def page_of(variant: str) -> str:
    """The HTML of one variant."""
    results = plain(VARIANTS[variant]())
    assert contradictions(results) == ()
    return render(results, printed=False)


@pytest.fixture(params=list(VARIANTS))
def variant(request: pytest.FixtureRequest) -> str:
    """The name of each variant in turn."""
    return request.param


@pytest.fixture
def page(variant: str) -> str:
    """The HTML of each variant in turn."""
    return page_of(variant)
