"""Versions of models: signed when they are registered; verified, loaded and proved before they answer."""
