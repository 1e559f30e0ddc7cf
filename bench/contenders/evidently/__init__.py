"""Evidently, in a separate environment."""
