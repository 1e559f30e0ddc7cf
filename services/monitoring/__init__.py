"""Predictions joined with labels, their losses, references, segments and reports."""
