"""What enters a trained head, and pictures sought from it through a public extractor."""
