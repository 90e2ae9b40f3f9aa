"""What is printed of updates that were captured."""
