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
    """Count what was read of the labels of several batches.

    One class a clip: guessing B distinct classes of C finds B / C of the labels. Several classes a clip: every class
    that is present is one trial, and naming G of C classes finds G / C of them. Yes or no: 1 / 2. A value in [0, 1]: a
    guess that is off by at most 0.05 counts, and a uniform one is so one time in ten.
    """
    if kind == "classes":
        return _present(truths, guesses, classes)
    if kind == "value":
        pairs = [
            (t, g) for truth, guess in zip(truths, guesses, strict=True) for t, g in zip(truth, guess, strict=True)
        ]
        close = sum(abs(_real(t) - _real(g)) <= _CLOSE for t, g in pairs)
        return recall_interval(close, len(pairs), round(0.5 / _CLOSE))
    hits = sum(_matched(truth, guess) for truth, guess in zip(truths, guesses, strict=True))
    trials = sum(len(truth) for truth in truths)
    candidates = 2 if kind == "binary" else classes
    return recall_interval(hits, trials, max(1, candidates // len(truths[0])))


def _present(truths: Sequence[Sequence[Label]], guesses: Sequence[Sequence[Label]], classes: int) -> Interval:
    pairs = [
        (_set(t), _set(g))
        for truth, guess in zip(truths, guesses, strict=True)
        for t, g in zip(truth, guess, strict=True)
    ]
    trials = sum(len(t) for t, _ in pairs)
    named = sum(len(t) * len(g) / classes for t, g in pairs) / max(1, trials)
    counted = recall_interval(sum(len(t & g) for t, g in pairs), trials, 1)
    return replace(counted, chance=min(1.0, named))


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
