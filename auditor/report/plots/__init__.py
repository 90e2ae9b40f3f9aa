"""Plots of a report as data: where each mark goes; the templates draw them."""
