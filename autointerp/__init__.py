"""Automated interpretability: explain, simulate and score the units of a language model."""
