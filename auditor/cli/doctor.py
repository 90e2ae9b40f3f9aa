"""`fl-audit doctor`: whether every part of an audit can work here."""

import typer

from auditor.errors import ExitCode


def doctor() -> None:
    """Check this installation: libraries, shipped data, device, PDF."""
    from auditor.cli.machine import diagnose

    checks = diagnose()
    for check in checks:
        mark = "ok  " if check.ok else "FAIL" if check.needed else "note"
        typer.echo(f"{mark}  {check.name}: {check.found}" + ("" if check.ok else f" -> {check.remedy}"))
    raise typer.Exit(ExitCode.USAGE if any(c.needed and not c.ok for c in checks) else 0)
