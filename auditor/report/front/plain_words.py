"""Reasons and limits that results hold in an engineer's words, in those of a reader of page one."""

import re

from auditor.report.language import recorded, say


def plainly(text: str) -> str:
    """Return a sentence of the results in plain words, without its full stop; as recorded where none are known.

    >>> plainly("1 seed; three or more show the spread")
    'each attack was run once'
    """
    for pattern, said in _plain():
        match = re.match(pattern, text)
        if match is not None:
            return said % match.groupdict()
    return recorded(text).rstrip(".")


def _plain() -> tuple[tuple[str, str], ...]:
    """Beginnings of what the verdict, the confidence and the threat model say, and what that means to anybody."""
    return (
        (r"\d+ attack runs were cut short", _raw("some attacks ran out of time")),
        (r"\d+ kinds of attack did not finish", _raw("some attacks ran out of time")),
        (r"1 seeds?; three", _raw("each attack was run once")),
        (r"2 seeds; three", _raw("each attack was run twice")),
        (r"(?P<n>\d+) probe clips; five", _raw("only %(n)s test clips")),
        (r"no probe clip was attacked", _raw("no attack was carried out on a test clip")),
        (r"1 probe clip; five", _raw("only one test clip")),
        (r"no form for the defences is known of", _raw("some attacks could not be adapted to the protection in place")),
        (r"controls held and the import is faithful", _raw("the audit's own checks passed")),
        (r"an exact recovery depends on neither", _raw("a copy this exact is no accident")),
        (r"a control failed|control failed: ",
         _raw("a check of the audit itself failed, so that failed attacks prove nothing")),
        (r"\d+ positive controls could not run", _raw("some checks of the audit itself could not run")),
        (r"linear analysis says that the update exposes",
         _raw("by calculation the update still holds the clip, but no attack got it out")),
        (r"linear analysis could not tell",
         _raw("it could not be calculated whether the update still holds the clip")),
        (r"one clip was attacked", _raw("only one clip was attacked")),
        (r"an attack ran to its end, and was held against", _raw("attacks did not finish on every clip")),
        (r"no attack on a clip could be carried through", _raw("no attack on the picture could be finished")),
        (r"an attack broke: ", _raw("an attack ended in an error of the tool")),
        (r"a server that sends manipulated models",
         _raw("a server that tampers with the model before it sends it out")),
        (r"a server that manipulates models in other ways",
         _raw("a server that tampers with the model in other ways than this report shows")),
        (r"several local steps before sending",
         _raw("clients that train for several steps before they send, and several rounds with the same clips")),
        (r"several rounds of the same clips, and local training",
         _raw("several rounds with the same clips, and other ways of training")),
        (r"secure aggregation, differential privacy",
         _raw("protection such as secure aggregation, noise or compression")),
        (r"other defences than those named", _raw("other protection than is named in this report")),
        (r"Measure what batch size, a frozen backbone",
         _raw("have the effect of protective measures measured (run the audit again with --what-if)")),
        (r"Repeat with a larger --preset or --max-time",
         _raw("give the audit more time, which some attacks ran out of (a larger --preset or --max-time)")),
        (r"attackers with generative models", _raw("attackers with an AI that was trained on clips like yours")),
    )  # fmt: skip


def _raw(english: str) -> str:
    """A message whose places are filled by what the pattern found."""
    return say(english, n="%(n)s") if "%(n)s" in english else say(english)
