"""Predictions and labels -> models that learn online."""
