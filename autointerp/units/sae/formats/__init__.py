"""Checkpoint formats: one small reader each, into the one `SparseAutoencoder`."""
