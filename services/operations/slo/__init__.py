"""Service level objectives: rules for Prometheus, and what is left of each budget."""
