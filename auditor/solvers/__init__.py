"""Numerical methods that know no attack: descent, least squares, line search, successive halving."""
