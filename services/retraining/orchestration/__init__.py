"""Runs the steps of a retraining outside of the service: by hand, with DVC, Prefect or Kubernetes."""
