"""Sentences for the report about constants of an ONNX file that may or may not be trained."""

from collections.abc import Iterator, Mapping, Sequence

from auditor.text import printable

SHOWN = 3


def constant_notes(
    precomputed: Sequence[str],
    fixed: Mapping[str, str],
    passed: Sequence[str],
    guessed: Sequence[str],
    repeated: Sequence[str],
) -> Iterator[str]:
    """Yield what is to be told about constants that the file leaves in doubt.

    `fixed` gives, by name, what a constant is that is not trained; `repeated` are vectors of one repeated number.
    """
    if passed:
        yield (
            f"{_listed(passed)} may be trained, but is taken as fixed by its place and its numbers: if clients train "
            "it, its gradient is missing here."
        )
    if guessed:
        yield (
            f"Taken as trained, as the file does not record whether they are: {_listed(guessed)}. Leave fixed tables "
            "out with --trainable."
        )
    if precomputed:
        yield (
            f"The exporter computed {_listed(precomputed)} in advance, from parameters or fixed tables: an update "
            "holds the gradients of what lies behind. An export with optimize=False keeps the parameters themselves."
        )
    if repeated:
        yield (
            f"Taken as trained, though one number repeated, as norms and layer scales are before training: "
            f"{_listed(repeated)}. Leave fixed numbers out with --trainable."
        )
    for what in dict.fromkeys(fixed.values()):
        names = [name for name, found in fixed.items() if found == what]
        yield (
            f"Taken as fixed, not as trained, being {what}: {_listed(names)}. If clients train them, their gradients "
            "are missing here."
        )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{printable(name, 60)}'" for name in names[:SHOWN]) + more
