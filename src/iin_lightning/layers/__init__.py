"""Torch layers that flows and encoders share."""
