"""Numerical methods that know no attack.

Descent of an objective of clips (`descent`, with its `schedule`, `parametrisation` and `step_rule`; `line_search` and
`lbfgs` are further rules), competing configurations (`successive_halving`), least squares (`gauss_newton` with
`conjugate_gradients` for many unknowns, `levenberg_marquardt` for few), and bounds of what a large matrix makes of a
vector (`lanczos`).
"""
