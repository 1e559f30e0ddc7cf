"""The process that sends alerts to people."""
