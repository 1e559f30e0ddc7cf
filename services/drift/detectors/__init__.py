"""Tests that find a change in a stream of values."""
