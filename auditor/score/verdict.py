"""The verdict: what was demonstrated, unless the controls, the budget or the exposure forbid a conclusion."""

from dataclasses import dataclass

from auditor.errors import ExitCode
from auditor.records import Exposure, record
from auditor.results.scores import EXPOSED_SHARE, Grade
from auditor.results.severity import BANDS, WHOLE_MAP

SENTENCES = {
    "FAIL": "FAIL: leakage demonstrated",
    "WARN": "WARN: partial leakage demonstrated",
    "PASS": "PASS: no leakage demonstrated under the tested conditions",
    "INCONCLUSIVE": "INCONCLUSIVE: this audit cannot tell",
}
# Of documents of earlier versions: a prediction that could not gain half the squared error even if the update
# determined every mode that was measured would call every net unexposed.
LEAST_ROOM_DB = 3.0
# One clip may be dull, or unlike all others; and the null control of a clip is another one.
LEAST_CLIPS = 2


@dataclass(frozen=True)
class Verdict:
    """One word, the sentence that may be quoted, and why."""

    word: str
    reasons: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        return SENTENCES[self.word]


@record
class Course:
    """What happened in an audit, as far as it bears on the verdict.

    Attributes
    ----------
    grade
        The best grade among findings whose null control is at chance, labels and frame membership among them.
    failed_controls
        Controls that had to hold and did not: nothing can be concluded then.
    open_questions
        Why nothing weaker than a FAIL can be concluded, one clause each: controls that could not run, findings whose
        null control was not at chance, anything that hides a leak from the attacks.
    exposure
        Of everything that is sent, at the first clip; None where it was not measured.
    clips
        Real clips that an attack was run on.
    tested_clips
        Those of them on which an attack ran to its end and was held against its null control.
    crashed
        Attacks that ended in a defect of the tool.
    unfinished
        Attacks that were skipped or cut short by the budget.
    search_failed
        What the diagnosis says of the best search where it fell short for another reason than that the update holds no
        more; empty otherwise.
    feature_map
        Of the largest inner value that was read off exactly, with a null control that held: how many numbers it holds
        for each pixel value; None where there is none.
    """

    grade: Grade
    failed_controls: tuple[str, ...] = ()
    open_questions: tuple[str, ...] = ()
    exposure: Exposure | None = None
    clips: int = 0
    tested_clips: int = 0
    crashed: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    search_failed: str = ""
    feature_map: float | None = None


def exposed(exposure: Exposure | None) -> bool | None:
    """Tell whether the update determines clearly more of a clip than a blind guess, by linear analysis.

    None where the analysis could not tell: it was not made, or it says of that share less at least and more at most. In
    documents of earlier versions: the modes that were measured hold too little of what a clip varies in to show it.
    """
    if exposure is None or exposure.determined is None:
        return None
    if exposure.determined >= EXPOSED_SHARE:
        return True
    if exposure.at_most is not None:
        most = 1.0 - 10.0 ** ((exposure.prior - exposure.at_most) / 10.0)
        return False if most < EXPOSED_SHARE else None
    return False if exposure.cap is not None and exposure.cap >= exposure.prior + LEAST_ROOM_DB else None


def decide(course: Course) -> Verdict:
    """Return the verdict.

    FAIL is demonstrated, whatever else went wrong but a control. WARN and PASS both say that no more than this was
    found, so both have to be earned: by several clips with finished attacks and null controls, and by an analysis
    which could have said that the update exposes them, and did not.
    """
    if course.failed_controls:
        return Verdict("INCONCLUSIVE", tuple(f"control failed: {name}" for name in course.failed_controls))
    if course.grade >= Grade.RECOGNISABLE:
        return Verdict("FAIL", (f"an attack reached {course.grade.name}",))
    if course.feature_map is not None and course.feature_map >= WHOLE_MAP:
        held = f"{course.feature_map:.1f} numbers for each pixel value"
        told = f"what a layer reads was recovered exactly ({held}); no recognisable picture was made from it"
        return Verdict("FAIL", (told,))
    doubts = _doubts(course)
    if doubts:
        return Verdict("INCONCLUSIVE", (*doubts, *_left_out(course.unfinished)))
    if course.feature_map is not None and course.grade is not Grade.GIST:
        return Verdict("WARN", ("what a layer reads of the clip was recovered exactly, but no picture",))
    if course.grade is Grade.GIST:
        return Verdict("WARN", ("an attack read labels, bits, the identity of a clip or its frames above chance",))
    return Verdict("PASS", ("no attack scored above its blind baseline and null control",))


def _doubts(course: Course) -> tuple[str, ...]:
    """Return every reason for which attacks that found little do not show that there is little to find."""
    return tuple(
        told
        for told in (
            *course.open_questions,
            *(f"an attack broke: {name}" for name in course.crashed),
            _too_few(course),
            _of_exposure(course.exposure),
            course.search_failed,
        )
        if told
    )


def _too_few(course: Course) -> str:
    if not course.clips:
        return "no attack on a clip could be carried through"
    if course.clips < LEAST_CLIPS:
        return "one clip was attacked: one may be unlike all others"
    if course.tested_clips < course.clips:
        return (
            f"an attack ran to its end, and was held against a null control, on {course.tested_clips} of "
            f"{course.clips} clips"
        )
    return ""


def _of_exposure(exposure: Exposure | None) -> str:
    found = exposed(exposure)
    if found is False:
        return ""
    untold = "linear analysis could not tell whether the update exposes a clip"
    most = None if exposure is None else exposure.at_most if exposure.at_most is not None else exposure.cap
    if exposure is None or most is None or exposure.determined is None:
        return untold
    if found is None and exposure.at_most is not None:
        between = f"{exposure.psnr:.1f} and {most:.1f} dB"
        return f"{untold}: its prediction lies between {between}, and {exposure.prior:.1f} dB takes no update"
    if found is None:
        return f"{untold}: its modes end at {most:.1f} dB, and {exposure.prior:.1f} dB takes no update"
    share, reached = f"{exposure.determined:.0%}", f"{exposure.psnr:.1f} dB of at most {most:.1f} dB"
    return (
        f"linear analysis says that the update exposes a clip ({share} of its modes' variance: predicted {reached}, "
        f"against {exposure.prior:.1f} dB blind), but no attack recovered a recognisable one"
    )


def _left_out(unfinished: tuple[str, ...]) -> tuple[str, ...]:
    """One sentence for all: the report lists each."""
    if not unfinished:
        return ()
    kinds = f"{len(unfinished)} kinds of attack did not finish or were still improving"
    return (f"{kinds}: more --max-time or a larger --preset may decide",)


def gate(word: str, score: float, band: str, fail_on: str) -> tuple[bool, ExitCode]:
    """Return whether the gate is satisfied, and the exit code. INCONCLUSIVE fails closed with its own code."""
    if word == "INCONCLUSIVE":
        return False, ExitCode.INCONCLUSIVE
    if fail_on == "never" or score <= 0.0 or BANDS.index(band) < BANDS.index(fail_on):
        return True, ExitCode.GATE_SATISFIED
    return False, ExitCode.GATE_FAILED
