"""Attacks on deep nets: how they are planned, and what they show besides pictures."""
