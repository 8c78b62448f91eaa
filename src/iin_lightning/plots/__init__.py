"""Figures from results and pictures; nothing else draws."""
