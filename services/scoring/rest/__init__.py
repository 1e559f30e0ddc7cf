"""The HTTP adapters of scoring."""
