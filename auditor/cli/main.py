"""The command line: the one place that prints, reads the environment and exits."""

import errno
import os
import sys
from typing import Annotated, NoReturn

import typer

from auditor.cli.attack import attack
from auditor.cli.ci.config import config
from auditor.cli.ci.diff import diff
from auditor.cli.ci.explain import explain
from auditor.cli.ci.gate import gate
from auditor.cli.ci.init import init
from auditor.cli.ci.verify import verify
from auditor.cli.clean import clean
from auditor.cli.compare import compare
from auditor.cli.defend import defend
from auditor.cli.doctor import doctor
from auditor.cli.export import export
from auditor.cli.filter import examine
from auditor.cli.inspect_model import inspect_model
from auditor.cli.listing import list_known
from auditor.cli.replay import replay
from auditor.cli.report import report
from auditor.cli.scale.merge import merge
from auditor.cli.scale.plan import plan
from auditor.cli.scan import scan
from auditor.cli.schema import schema
from auditor.cli.screen import hang_up
from auditor.cli.study import study
from auditor.cli.unfinished import unfinished_words
from auditor.errors import AuditError, ExitCode, is_out_of_memory
from auditor.signals import end_with, listen_to_interrupts
from auditor.text import printable

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

app = typer.Typer(
    name="fl-audit",
    help="What does a federated-learning update give away about the clips it was trained on?",
    epilog="Exit codes: 0 gate satisfied, 1 gate failed on findings, 2 usage, 3 nothing auditable, 4 inconclusive, "
    "5 internal error, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from auditor import __version__

        typer.echo(f"fl-audit {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_version)
    ] = False,
) -> None:
    pass


for _name, _command in {
    "scan": scan,
    "attack": attack,
    "defend": defend,
    "replay": replay,
    "compare": compare,
    "study": study,
    "plan": plan,
    "merge": merge,
    "inspect": inspect_model,
    "filter": examine,
    "export": export,
    "report": report,
    "diff": diff,
    "gate": gate,
    "verify": verify,
    "explain": explain,
    "config": config,
    "init": init,
    "list": list_known,
    "schema": schema,
    "clean": clean,
    "doctor": doctor,
}.items():
    app.command(_name)(_command)


def main() -> NoReturn:
    """Run the command line; every way out is one line and a documented code."""
    listen_to_interrupts()
    # Before torch is imported: its threads would spin while they wait for each other. Beside another process on two
    # cores a gradient of r3d_18 at 8x32x32 then took 3.1 s, and 0.6 s where they wait passively.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        hang_up()
        code = ExitCode.GATE_SATISFIED
    except SystemExit as ended:
        if ended.code != 1:
            raise
        # Commands return their codes: this is how rich and click answer a reader that closed the pipe.
        hang_up()
        code = ExitCode.GATE_SATISFIED
    except Exception as error:  # noqa: BLE001 - the edge turns everything into one line
        code = _explain(error)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    # Typer turns an interrupt inside a command into a bare exit with this code.
    if code == ExitCode.INTERRUPTED:
        end_with(int(code), lambda: _tell(_unfinished(sys.argv[1:]), ExitCode.INTERRUPTED))
    end_with(int(code or 0))


def _unfinished(arguments: list[str]) -> str:
    """Say what an interrupt left undone."""
    command = next((a for a in arguments if not a.startswith("-")), "")
    left = {
        "scan": unfinished_words(),
        "merge": unfinished_words(),
        "attack": "no result was written",
        "defend": unfinished_words("nothing was written"),
        "replay": "nothing was compared",
        "export": "no file was written",
        "inspect": "the model was not attacked, and nothing was written",
        "compare": unfinished_words("nothing was compared"),
        "study": "what was finished is kept, and the same command goes on from there",
        "report": "files that were not finished are as they were",
    }
    return f"interrupted; {left[command]}" if command in left else "interrupted"


def _explain(error: Exception) -> int:
    """Say in one line what happened and what to do, and return the code."""
    if os.environ.get("FL_AUDIT_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, AuditError):
        return _tell(str(error), error.exit_code)
    if isinstance(error, typer.Abort):
        return ExitCode.INTERRUPTED
    if hasattr(error, "format_message") and hasattr(error, "exit_code"):
        if not error.format_message():  # without arguments: the help was printed
            return ExitCode.USAGE
        return _tell(f"{error.format_message().rstrip('.')}; see fl-audit --help", ExitCode.USAGE)
    if isinstance(error, OSError) and error.filename is not None:
        reason = error.strerror or type(error).__name__
        return _tell(
            f"cannot use {printable(str(error.filename), 300)} ({reason}); check the path, its permissions and the "
            "room on its disk",
            ExitCode.USAGE,
        )
    if isinstance(error, OSError) and error.errno in NO_ROOM:  # a write tells no name
        return _tell(f"cannot write ({error.strerror}); make room, or choose another place", ExitCode.USAGE)
    if is_out_of_memory(error):
        return _tell("out of memory; use a smaller --input-shape or --batch, or --device cpu", ExitCode.INTERNAL)
    first = (str(error).strip().splitlines() or [""])[0]
    return _tell(
        f"internal error: {type(error).__name__}: {first}; this is a defect of fl-audit, FL_AUDIT_DEBUG=1 shows where",
        ExitCode.INTERNAL,
    )


def _tell(text: str, code: ExitCode | int) -> int:
    line = " ".join(text.split())
    print(f"fl-audit: {printable(line, 1000)}", file=sys.stderr)  # noqa: T201 - the edge prints
    return int(code)
