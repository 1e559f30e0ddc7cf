"""MLServer with its runtime for scikit-learn, in an environment of its own."""
