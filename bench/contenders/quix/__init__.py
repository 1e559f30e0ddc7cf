"""The job as a Quix Streams application, in a separate environment."""
