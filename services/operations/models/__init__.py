"""Commands that show and change the versions and arms of models."""
