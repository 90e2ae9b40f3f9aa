"""Why an audit may demonstrate more than it calls exposed: what the prediction cannot see, in a sentence."""

from collections.abc import Mapping
from typing import Any

from auditor.report import figures
from auditor.report.headline import best
from auditor.report.language import say

# Both are shown with one digit.
_SHOWN_ALIKE = 0.05


def why_below(results: Mapping[str, Any]) -> str:
    """Return why less is exposed than the strongest attack demonstrated; nothing where that is not so.

    Exposure is a linear prediction at a stated noise, and told at least: the exact value lies below `at_most`. An
    attack that solves the update as it was sent, or that follows the curvature of the model, is not held by it.
    Documents of earlier versions measured a limited number of modes.
    """
    exposed, strongest = results["exposure"]["all"], best(results)
    if exposed is None or strongest is None:
        return ""
    predicted, shown = figures.real(exposed["psnr"]), figures.real(strongest.result["score"]["psnr"])
    if predicted is None or shown is None or predicted >= shown - _SHOWN_ALIKE:
        return ""
    most = figures.real(exposed.get("at_most"))
    if most is not None:
        told = say(
            "Less is exposed than was demonstrated: exposure is a linear prediction at noise %(sigma)s of each "
            "gradient, which does not hold an attack that solves the update as it was sent, or that follows the "
            "curvature of the model.",
            sigma=figures.tiny(results["exposure"]["sigma"]),
        )
        if shown > most + _SHOWN_ALIKE:
            return told
        return say(
            "Less is exposed than was demonstrated: exposure is told at least, and its exact value lies between "
            "%(least)s and %(most)s.",
            least=figures.decibels(exposed["psnr"]),
            most=figures.decibels(most),
        )
    modes, cap = results["exposure"]["modes"], exposed.get("cap")
    told = say(
        "Less is exposed than was demonstrated: exposure is a linear prediction at noise %(sigma)s of each gradient in "
        "%(modes)s modes, and an attack that solves the update as it was sent is held by neither.",
        sigma=figures.tiny(results["exposure"]["sigma"]),
        modes=figures.whole(modes),
    )
    if figures.real(cap) is None:
        return told
    return f"{told} {say('These modes can show %(cap)s at most.', cap=figures.decibels(cap))}"
