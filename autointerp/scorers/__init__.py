"""Scorers: how far an explanation can be trusted, from records it was not made from."""

from autointerp.scorers.simulation import ScoreJob, SimulationScorer

__all__ = ["ScoreJob", "SimulationScorer"]
