"""Graphs in 8 bits: made from those in float32, kept with a run, and run where that pays."""
