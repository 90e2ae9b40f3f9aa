"""Layers in a report: remarks on each, and what attacks made of each."""
