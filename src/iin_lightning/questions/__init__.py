"""Analyses as they are asked for: examples chosen, a pure analysis asked, the answer drawn."""
