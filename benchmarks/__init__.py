"""One program per question of speed; each prints a ratio against a plain computation.

They run from a clone of the project, for example `python -m benchmarks.metrics`.
"""
