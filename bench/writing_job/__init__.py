"""What the benchmark of feature writes runs."""
