"""Inputs solved for exactly: layers, patches and batches that an update determines without any search."""
