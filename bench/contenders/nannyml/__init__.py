"""NannyML, in a separate environment."""
