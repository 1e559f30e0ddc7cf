"""MLServer with its runtime for scikit-learn, in a separate environment."""
