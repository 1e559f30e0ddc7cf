"""``driftline erase``: removes all data of one subject, and records what was done."""
