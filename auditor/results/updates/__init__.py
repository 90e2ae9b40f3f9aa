"""What is written of updates that were captured."""
