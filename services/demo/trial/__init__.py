"""``driftline demo --bad-candidates``: candidates that must be stopped, on the flights of a few weeks."""
