"""Predictions and labels -> outcomes, drift reports, alarms, retraining requests."""
