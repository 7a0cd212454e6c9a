"""Analysis: aggregates with coverage and intervals, features against neurons, figures."""
