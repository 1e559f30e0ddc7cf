"""Loss, cost and metrics of a model, and whether they have become worse."""
