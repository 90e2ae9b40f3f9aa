"""`fl-audit explain`: what a rule means, why it matters, and what to do."""

import typer

from auditor.cli.screen import unheard
from auditor.cli.signatures import takes_options
from auditor.gate_options import ExplainOptions


@takes_options("explain")
def explain(options: ExplainOptions) -> None:
    """Say what a rule means, why it matters, what to do, and what its number rests on; without RULE list all."""
    from auditor.gate.rules import RULES, rule_named

    with unheard():
        if not options.rule:
            for rule in RULES:
                typer.echo(f"{rule.name:<20} {rule.short}")
            return
        rule = rule_named(options.rule)
        remedies = "\n".join(f"  - {text}" for text in rule.remedies)
        typer.echo(f"{rule.name}: {rule.short}\n\n{rule.meaning}\n\nWhy: {rule.why}\n\nWhat to do:\n{remedies}\n")
        typer.echo(f"Evidence: {rule.evidence}\n")
        typer.echo(f'In a waiver: rule = "{rule.name}". Out of the gate: --level {rule.name}=off')
