"""Data: sources draw vectorised batches; in a stream, a batch is a function of (seed, step, rank)."""
