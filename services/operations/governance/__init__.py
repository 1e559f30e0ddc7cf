"""Commands that show and record who decided what about the models."""
