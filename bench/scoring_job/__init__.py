"""The scoring job: ten features of one entity from the online store, a logistic regression, JSON out."""
