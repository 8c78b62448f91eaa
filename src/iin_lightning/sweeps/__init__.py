"""Sweeps: each job fails alone, and every sweep ends in a table."""
