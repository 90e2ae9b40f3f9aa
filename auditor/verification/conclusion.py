"""Verify any file that fl-audit writes, and say in a word what came of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditor.errors import ExitCode, UsageError
from auditor.report.headline import headlines, statement
from auditor.results.protection.seal import SEAL
from auditor.text import printable
from auditor.verification.check import Verified
from auditor.verification.document import read_unverified, verify_results
from auditor.verification.pages import verify_pdf, verify_rendering
from auditor.verification.pdf_objects import PdfFile

Results = Mapping[str, Any]
_RESULTS = "results.json"
_SCHEMA = b'"fl-audit/results/'


@dataclass(frozen=True)
class FileVerdict:
    """Every check of a file, and the results that it holds or was made from."""

    checks: tuple[Verified, ...]
    results: Results

    @property
    def word(self) -> str:
        """EDITED where a check failed, INCOMPLETE where one could not be made, VERIFIED where all passed."""
        states = [check.passed for check in self.checks]
        return "EDITED" if False in states else "INCOMPLETE" if None in states else "VERIFIED"

    @property
    def code(self) -> ExitCode:
        """The exit code: what was edited fails as a gate does, and what cannot be told is inconclusive."""
        return {"EDITED": ExitCode.GATE_FAILED, "INCOMPLETE": ExitCode.INCONCLUSIVE}.get(
            self.word, ExitCode.GATE_SATISFIED
        )


def verify(
    path: Path, beside: Path | None = None, public: str | None = None, baseline: Results | None = None
) -> FileVerdict:
    """Verify a file by its content, whatever its name is.

    Parameters
    ----------
    beside
        The results that HTML, SARIF and the like were made from; without it the results.json in the same folder.
    public, baseline
        See `verify_results`.

    Raises
    ------
    UsageError
        The file cannot be read, or is nothing that fl-audit writes.
    """
    content = _bytes(path)
    if content[:1024].lstrip().startswith(b"%PDF-"):
        pdf = PdfFile.read(content, str(path))
        results = read_unverified(pdf.attached, f"{_RESULTS} in {path.name}")
        return FileVerdict((*verify_results(results, public, baseline), *_drawn(pdf, results)), results)
    if content.lstrip().startswith(b"{") and _SCHEMA in content:
        results = read_unverified(content, str(path))
        return FileVerdict(tuple(verify_results(results, public, baseline)), results)
    made_from = beside or path.with_name(_RESULTS)
    if not made_from.exists():
        raise UsageError(
            f"{printable(str(path))} does not hold the results that it was made from",
            "name them with --results, or put results.json beside it",
        )
    results = read_unverified(_bytes(made_from), str(made_from))
    checks = verify_results(results, public, baseline)
    return FileVerdict((*checks, *(() if _edited(checks) else verify_rendering(content, path, results))), results)


def lines(path: Path, conclusion: FileVerdict) -> list[str]:
    """Return what was found, a line a check, and the headline of the results as they are."""
    marks = {True: "ok", False: "EDITED", None: "?"}
    results = conclusion.results
    said = [f"{marks[c.passed]:<7}{c.name}{f': {c.told}' if c.told else ''}" for c in conclusion.checks]
    if conclusion.word == "EDITED":
        return [*said, f"EDITED: {printable(str(path), 300)} is not as fl-audit wrote it"]
    told = [f"{h.title}: {h.value} ({h.interval})" for h in headlines(results)]
    verdict, model, severity = results["verdict"], results["model"], results["severity"]
    signed = "signed" if (results.get(SEAL) or {}).get("signature") else "not signed"
    return [
        *said,
        f"{conclusion.word}: {printable(str(path), 300)}, audit {printable(results['tool']['audit_id'], 12)}, {signed}",
        f"{verdict['word']}, severity {severity['score']} ({severity['band']}), model {printable(model['name'], 60)}, "
        f"SHA-256 {printable(model['sha256'], 64)}",
        printable(statement(results), 300),
        printable("; ".join(told), 400),
    ]


def _drawn(pdf: PdfFile, results: Results) -> list[Verified]:
    """Hold the pages against fresh ones; values of the right form may still be none that a page can show."""
    try:
        return list(verify_pdf(pdf, results))
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        return [
            Verified("pages are those that its results give", False, f"they cannot be drawn ({type(error).__name__})")
        ]


def _edited(checks: Sequence[Verified]) -> bool:
    return any(check.passed is False for check in checks)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read {printable(str(path))} ({error.strerror or type(error).__name__})",
            "give a file that fl-audit wrote",
        ) from None
