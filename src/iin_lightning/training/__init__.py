"""All that knows Lightning: what is trained, when its state is written, and what a run shows on the way."""
