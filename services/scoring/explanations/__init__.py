"""Contributions of features to a prediction."""
