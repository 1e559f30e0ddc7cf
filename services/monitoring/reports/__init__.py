"""The report of a window: one self-contained page, or JSON, made from the drift topic."""
