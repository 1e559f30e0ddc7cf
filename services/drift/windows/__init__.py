"""Windows of event time: what was counted in them, and how they differ from the reference."""
