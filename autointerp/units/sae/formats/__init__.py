"""Checkpoint formats: one small reader each, into the one `SparseAutoencoder`.

A reader is a module with `LAYOUT`, `fits(checkpoint)` and `read(checkpoint)`; `load.FORMATS` lists
them. `checkpoint` opens files, `folding` and `places` hold what several formats need.
"""
