"""From what a run measured to the document that is written."""
