"""Programs that measure speed, each as a ratio to a plain computation.

They run from a clone of the project, for example `python -m benchmarks.metrics`.
"""
