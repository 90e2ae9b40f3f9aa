"""What every error of loading must be: of one kind, on one line, with a remedy."""

import pytest

from auditor.errors import AuditError
from auditor.model import load


def fails(kind: type[AuditError], *words: str, source: str, **options: object) -> str:
    """Load, expect an error of this kind with these words, and return it."""
    with pytest.raises(kind) as caught:
        load(source, **options)  # type: ignore[arg-type]
    text = str(caught.value)
    assert type(caught.value) is kind
    assert "\n" not in text
    assert caught.value.remedy
    for word in words:
        assert word in text
    return text
