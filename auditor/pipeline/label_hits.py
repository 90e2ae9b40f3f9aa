"""How many labels were read off the updates, beside what a guesser would read."""

from collections.abc import Sequence
from dataclasses import replace

from auditor.records import Label
from auditor.score import Interval, recall_interval

# A value counts as read when it is this close, on a scale of 0 to 1.
_CLOSE = 0.05


def label_interval(
    truths: Sequence[Sequence[Label]], guesses: Sequence[Sequence[Label]], classes: int, kind: str
) -> Interval:
    """Count what was read of the labels of several batches, beside what a guesser would read.

    One class a clip: in a batch of distinct labels guessing B of C classes finds B / C of them, and more where classes
    have to repeat; in one of equal labels guessing one class finds 1 / C. Several classes a clip: every class that is
    present is one trial, and naming G of C classes finds G / C of them. Yes or no: 1 / 2. A value in [0, 1]: a guess
    that is off by at most 0.05 counts, and a uniform one is so one time in ten.
    """
    if kind == "classes":
        return _present(truths, guesses, classes)
    if kind in ("value", "binary"):
        close = _CLOSE if kind == "value" else 0.0
        pairs = _pairs(truths, guesses)
        hits = sum(abs(_real(t) - _real(g)) <= close for t, g in pairs)
        return _proportion(hits, len(pairs), 2.0 * _CLOSE if kind == "value" else 0.5)
    hits = sum(_matched(truth, guess) for truth, guess in zip(truths, guesses, strict=True))
    trials = sum(len(truth) for truth in truths)
    found = sum(_blindly_matched(truth, classes) for truth in truths)
    return _proportion(hits, trials, found / max(1, trials))


def _blindly_matched(truth: Sequence[Label], classes: int) -> float:
    """Return how many labels of a batch the best guess without the update finds, on average.

    Distinct labels take all classes in turn: those of whole turns are known, of the last r of C classes r / C.
    """
    if len(truth) > 1 and len(set(truth)) == 1:
        return len(truth) / classes
    rest = len(truth) % classes
    return len(truth) - rest + rest * rest / classes


def _proportion(hits: int, trials: int, chance: float) -> Interval:
    return replace(recall_interval(hits, trials, 1), chance=min(1.0, chance))


def _present(truths: Sequence[Sequence[Label]], guesses: Sequence[Sequence[Label]], classes: int) -> Interval:
    pairs = [
        (_set(t), _set(g))
        for truth, guess in zip(truths, guesses, strict=True)
        for t, g in zip(truth, guess, strict=True)
    ]
    trials = sum(len(t) for t, _ in pairs)
    named = sum(len(t) * len(g) / classes for t, g in pairs) / max(1, trials)
    return _proportion(sum(len(t & g) for t, g in pairs), trials, named)


def _pairs(truths: Sequence[Sequence[Label]], guesses: Sequence[Sequence[Label]]) -> list[tuple[Label, Label]]:
    """Every clip's label with its guess; rules for these losses see one clip at a time, so the order is certain."""
    return [pair for truth, guess in zip(truths, guesses, strict=True) for pair in zip(truth, guess, strict=True)]


def _matched(truth: Sequence[Label], guess: Sequence[Label]) -> int:
    left = list(guess)
    count = 0
    for label in truth:
        if label in left:
            left.remove(label)
            count += 1
    return count


def _set(label: Label) -> frozenset[int]:
    return frozenset(label) if isinstance(label, tuple) else frozenset((int(label),))


def _real(label: Label) -> float:
    return 0.0 if isinstance(label, tuple) else float(label)
