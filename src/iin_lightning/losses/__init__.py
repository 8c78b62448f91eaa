"""Scalars from tensors; no optimizer inside."""
