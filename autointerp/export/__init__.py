"""Explanations and records for other programs, and back."""
