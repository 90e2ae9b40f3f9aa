"""Cases with a known outcome that audits plant and attack."""
