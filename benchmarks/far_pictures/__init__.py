"""Pictures that are far from photographs, and what the shipped weights make of them.

`python -m benchmarks.far_pictures OUT` draws them and predicts them; see `__main__.py`.
"""
