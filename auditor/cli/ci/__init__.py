"""Commands for pipelines: comparing audits, judging them, and what a project configures."""
