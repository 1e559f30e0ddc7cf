"""Events -> windowed features -> online store."""
