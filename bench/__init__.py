"""Head-to-head benchmarks: each contender does the same job on the same servers in the same run."""
