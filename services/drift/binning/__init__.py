"""Values as bins and counts."""
