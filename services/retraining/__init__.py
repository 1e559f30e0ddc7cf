"""A request for retraining -> data set -> candidate -> gates -> promotion, repeatable after a crash."""
