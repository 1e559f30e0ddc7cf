"""Models of scikit-learn: stored without pickle, loaded, and evaluated fast."""
