"""Documents about defences: where protection begins, what a filter is, and what a privacy claim is worth."""
