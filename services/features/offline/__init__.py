"""Executes the views offline, over archived events and batch sources, with the same bits as online."""
