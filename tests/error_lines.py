"""What an error looks like to whoever runs a command."""


def the_error(err: str) -> str:
    """The one line that an error is, where nothing else was printed."""
    lines = [x for x in err.splitlines() if x.strip()]
    assert len(lines) == 1, err
    assert lines[0].startswith("fl-audit: ")
    assert "Traceback" not in err
    assert ";" in lines[0] or "interrupted" in lines[0]
    return lines[0]


def error_after_progress(err: str) -> str:
    """The one line that an error is, beside lines of progress, which begin with a time."""
    return the_error("\n".join(x for x in err.splitlines() if not x.startswith("[")))
