"""`fl-audit` and `python -m auditor`: an interrupt is one line even while the command line is still being imported."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Import the command line and run it.

    Raises
    ------
    SystemExit
        Always, with a documented exit code.
    """
    try:
        from auditor.cli.main import main as run
    except KeyboardInterrupt:
        from auditor.errors import ExitCode

        sys.stderr.write("fl-audit: interrupted; nothing had begun\n")
        sys.exit(int(ExitCode.INTERRUPTED))
    run()


if __name__ == "__main__":
    main()
