"""Requests and features -> predictions, over Kafka and REST, through one inference path."""
