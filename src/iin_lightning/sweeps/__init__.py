"""Sweeps: jobs whose failure is their own, a single run among them, and the table that many end in."""
