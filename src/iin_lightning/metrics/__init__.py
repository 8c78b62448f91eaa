"""Numbers of a model: round trip, transfer, leakage, disentanglement, Gaussianity, sample quality."""
