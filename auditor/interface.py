"""The Python interface: the command line's options as keywords, with the same checks and the same errors."""

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from auditor.keywords import AttackKeywords, CompareKeywords, DefendKeywords, LoadKeywords, ScanKeywords

if TYPE_CHECKING:
    from auditor.comparison.run import Compared
    from auditor.pipeline.captured.attack import AttackedCapture
    from auditor.pipeline.documents.audit import Audit
    from auditor.pipeline.documents.defend import Defended
    from auditor.pipeline.single_attack.run import Attacked
    from auditor.records import Target


def load(model: str | Path | None = None, **options: Unpack[LoadKeywords]) -> "Target":
    """Read a model, and check how faithfully.

    Parameters
    ----------
    model
        `model.onnx`, `path/file.py:factory`, `torchvision:NAME` and so on; or leave it out and give `extractor` and
        `head`.
    options
        See docs/options.md.

    Returns
    -------
    Target
        The network with its parameters, layers, input, output and the checks that it passed.

    Raises
    ------
    UsageError
        An option is wrong.
    NotAuditable
        The model cannot be audited.
    """
    from auditor.option_rules import options_from
    from auditor.options import ModelOptions
    from auditor.pipeline.scan import choose_device, load_target

    wanted = options_from(ModelOptions, {"model": model, **options})
    return load_target(wanted, choose_device(wanted.device))


def scan(model: str | Path | None = None, **options: Unpack[ScanKeywords]) -> "Audit":
    """Audit a model, as `fl-audit scan` does, and return what was found; nothing is written.

    Parameters
    ----------
    model, options
        As in `load`, and how clients train, and how much is tried: see docs/options.md.

    Returns
    -------
    Audit
        `results` is the content of results.json (docs/results.md).

    Raises
    ------
    UsageError
        An option is wrong.
    NotAuditable
        The model cannot be audited.
    Inconclusive
        The time ended before anything was attacked.
    """
    from auditor.option_rules import options_from
    from auditor.options import ScanOptions
    from auditor.pipeline import Silent
    from auditor.pipeline import scan as run

    return run(options_from(ScanOptions, {"model": model, **options}), Silent())


def compare(*models: str | Path, **options: Unpack[CompareKeywords]) -> "Compared":
    """Audit several models in the same way, as `fl-audit compare` does; nothing is written.

    Parameters
    ----------
    models
        The baseline first; or one factory, with `vary`.
    options
        As in `scan`, and `vary` and `seeds`: see docs/options.md.

    Returns
    -------
    Compared
        `results` is the content of comparison.json (docs/compare.md), `audits` are results by model and seed.

    Raises
    ------
    UsageError
        An option is wrong, or there is nothing to compare.
    NotAuditable
        A model cannot be audited.
    Inconclusive
        The time ended before anything was attacked.
    """
    from auditor.comparison.options import ComparedModels
    from auditor.comparison.run import compare as run
    from auditor.declaring import options_of
    from auditor.option_rules import options_from
    from auditor.options import ScanOptions
    from auditor.pipeline import Silent

    given = dict(options)
    names = {o.name for o in options_of(ComparedModels)}
    own = {"others": list(models[1:]) or None, **{name: given.pop(name) for name in names & given.keys()}}
    first = models[0] if models else None
    return run(options_from(ScanOptions, {"model": first, **given}), options_from(ComparedModels, own), Silent())


def attack(model: str | Path | None = None, **options: Unpack[AttackKeywords]) -> "Attacked | AttackedCapture":
    """Run one attack on one clip, as `fl-audit attack` does, and return what it reconstructed; nothing is written.

    With `update`, or `after` and `before`, the update comes from files and nobody knows the clip (docs/captured.md).

    Parameters
    ----------
    model, options
        As in `load`, and how clients train; `attack` and `clip` name the attack and the clip: see docs/options.md.

    Returns
    -------
    Attacked
        `clips` are the reconstructions, `score` compares the first with the true clip, `grade` says what it amounts to.
    AttackedCapture
        Of a captured update: `clips`, `residual`, what unrelated clips leave, and `proof`; no score.

    Raises
    ------
    UsageError
        An option or a file is wrong.
    NotAuditable
        The model cannot be audited, or the attack does not apply to its updates.
    Inconclusive
        The time did not hold the attack.
    """
    from auditor.declaring import options_of
    from auditor.option_rules import options_from
    from auditor.options import AttackOptions
    from auditor.pipeline import Silent
    from auditor.pipeline.captured.attack import attack_captured
    from auditor.pipeline.single_attack.run import attack_one
    from auditor.update_options import CapturedUpdate

    names = {option.name for option in options_of(CapturedUpdate)}
    captured = options_from(CapturedUpdate, {n: value for n, value in options.items() if n in names})
    others = {n: value for n, value in options.items() if n not in names}
    wanted = options_from(AttackOptions, {"model": model, **others})
    return attack_captured(captured, wanted, Silent()) if captured.given else attack_one(wanted, Silent())


def defend(model: str | Path | None = None, **options: Unpack[DefendKeywords]) -> "Defended":
    """Find where the protection of every kind of defence begins, as `fl-audit defend` does; nothing is written.

    Parameters
    ----------
    model, options
        As in `load`, and how clients train; `defence` narrows what is searched: see docs/options.md.

    Returns
    -------
    Defended
        `results` is the content of defend.json (docs/defences.md).

    Raises
    ------
    UsageError
        An option is wrong, or the user's own measure of utility is.
    NotAuditable
        The model cannot be audited.
    Inconclusive
        The work did not hold the search.
    """
    from auditor.option_rules import options_from
    from auditor.options import DefendOptions
    from auditor.pipeline import Silent
    from auditor.pipeline.documents.defend import Defended, defend_document
    from auditor.pipeline.protection.search import defend as search

    found = search(options_from(DefendOptions, {"model": model, **options}), Silent())
    return Defended(results=defend_document(found))
