"""What an audit makes of defences: which attacks have no form for them, and what an update under them exposes."""
