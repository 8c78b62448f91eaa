"""Numbers of a model: likelihood, transfer, leakage, disentanglement, Gaussianity, sample quality."""
