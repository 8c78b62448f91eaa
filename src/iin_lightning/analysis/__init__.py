"""Questions to an interpreter: pure functions on tensors."""
