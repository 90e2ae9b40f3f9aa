"""The verdict: what was demonstrated, unless the controls or the budget forbid a conclusion."""

from dataclasses import dataclass

from auditor.errors import ExitCode
from auditor.records import Exposure
from auditor.results.scores import Grade
from auditor.results.severity import BANDS

SENTENCES = {
    "FAIL": "FAIL: leakage demonstrated",
    "WARN": "WARN: partial leakage demonstrated",
    "PASS": "PASS: no leakage demonstrated under the tested conditions",
    "INCONCLUSIVE": "INCONCLUSIVE: this audit cannot tell",
}
# Exposure counts as a contradiction when linear analysis predicts half the squared error of a blind guess or less.
# That is far from a recognisable picture: the bar is low because it stands in the way of a PASS.
EXPOSED_GAIN_DB = 3.0


@dataclass(frozen=True)
class Verdict:
    """One word, the sentence that may be quoted, and why."""

    word: str
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        return SENTENCES[self.word]


def exposed(exposure: Exposure | None) -> bool:
    """Tell whether the update determines clearly more of a clip than a blind guess, by linear analysis."""
    return exposure is not None and exposure.psnr >= exposure.prior + EXPOSED_GAIN_DB


def decide(
    grade: Grade,
    *,
    failed_controls: tuple[str, ...],
    exposure: Exposure | None,
    out_of_budget: tuple[str, ...],
    attacked: bool,
    hidden: tuple[str, ...] = (),
    not_run: tuple[str, ...] = (),
) -> Verdict:
    """Return the verdict.

    Parameters
    ----------
    grade
        The best grade among findings whose null control is at chance.
    failed_controls
        Controls that had to hold and did not: nothing can be concluded then.
    out_of_budget
        Attacks that were skipped or cut short by the budget.
    attacked
        Whether any attack on a clip was carried through, or shown not to apply to this update.
    not_run
        Controls that had to hold and could not be run: nothing can be concluded either.
    hidden
        What of the model no attack looks at, where that is too much for nothing found to mean anything.
    """
    if failed_controls or not_run:
        failed = tuple(f"control failed: {name}" for name in failed_controls)
        return Verdict("INCONCLUSIVE", (*failed, *(f"control not run: {name}" for name in not_run)))
    if grade >= Grade.RECOGNISABLE:
        return Verdict("FAIL", (f"an attack reached {grade.name}",))
    if hidden:
        return Verdict("INCONCLUSIVE", hidden)
    if not attacked:
        return Verdict("INCONCLUSIVE", ("no attack on a clip could be carried through", *_left_out(out_of_budget)))
    if exposed(exposure) and out_of_budget:
        assert exposure is not None
        return Verdict(
            "INCONCLUSIVE",
            (
                f"linear analysis says that the update exposes a clip (predicted {exposure.psnr:.1f} dB against "
                f"{exposure.prior:.1f} dB blind), but no attack recovered a recognisable one before its budget ended",
                *_left_out(out_of_budget),
            ),
        )
    if grade is Grade.GIST:
        return Verdict("WARN", ("an attack read labels, bits, the identity of a clip or its frames above chance",))
    if out_of_budget and exposure is None:
        return Verdict(
            "INCONCLUSIVE", ("neither the attacks nor the exposure analysis could finish", *_left_out(out_of_budget))
        )
    return Verdict("PASS", ("no attack scored above its blind baseline and null control",))


def _left_out(cut_short: tuple[str, ...]) -> tuple[str, ...]:
    """One sentence for all: the report lists each."""
    if not cut_short:
        return ()
    kinds = f"{len(cut_short)} kinds of attack did not finish or were still improving"
    return (f"{kinds}: more --max-time or a larger --preset may decide",)


def gate(word: str, score: float, band: str, fail_on: str) -> tuple[bool, ExitCode]:
    """Return whether the gate is satisfied, and the exit code. INCONCLUSIVE fails closed with its own code."""
    if word == "INCONCLUSIVE":
        return False, ExitCode.INCONCLUSIVE
    if fail_on == "never" or score <= 0.0 or BANDS.index(band) < BANDS.index(fail_on):
        return True, ExitCode.GATE_SATISFIED
    return False, ExitCode.GATE_FAILED
