"""Accumulators in the manner of torchmetrics: round trip, factor transfer."""
