"""The arms of each model, for those who steer them: shown, and changed on the models topic."""
