"""Commands that people run by hand."""
