"""Feast feature views: compiled to a plan, read from the online store, served."""
