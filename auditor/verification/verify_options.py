"""What the commands around seals and signatures take."""

from functools import partial
from pathlib import Path

from auditor.declaring import REQUIRED, declaration, option
from auditor.terms import GATE, OUTPUT
from auditor.values import FilePath, Switch

_output = partial(option, panel=OUTPUT)
_RESULTS = FilePath(remedy="the results.json of a scan")


@declaration
class SigningOptions:
    """Who answers for the results that are written."""

    sign_key: Path | None = _output(
        None,
        FilePath(remedy="a private Ed25519 key, made by openssl genpkey -algorithm ed25519"),
        "Private Ed25519 key (PEM or OpenSSH) that signs the results; needs fl-audit[sign].",
    )


@declaration
class VerifyOptions:
    """A file that is verified."""

    file: Path = _output(
        REQUIRED, FilePath(remedy="a file that fl-audit wrote"), "results.json, report.pdf, report.html, ...",
        argument=True,
    )  # fmt: skip
    results: Path | None = _output(
        None, _RESULTS, "What it was made from.", default_words="results.json beside it; a PDF holds its own"
    )
    public_key: Path | None = _output(
        None, FilePath(remedy="a public Ed25519 key"), "Public key (PEM or OpenSSH) that it has to be signed with."
    )
    baseline: Path | None = option(
        None, _RESULTS, "results.json that it was judged against: makes the comparison again.", panel=GATE
    )
    json: bool = _output(False, Switch(), "Print JSON and nothing else.")
