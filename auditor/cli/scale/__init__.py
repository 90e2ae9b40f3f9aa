"""Commands and options for long audits: what they will take, and who does the work."""
