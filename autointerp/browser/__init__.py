"""The feature browser: pages over a finished run, served on this machine or written as files."""
