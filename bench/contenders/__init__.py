"""Alternatives to Driftline, written as their documentation advises or as a good engineer would by hand."""
