"""The page over a run."""
