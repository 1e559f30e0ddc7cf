"""Versions of models, signed at their registration and verified when they are loaded; and their arms."""
