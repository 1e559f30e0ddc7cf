"""The job as a Quix Streams application, in an environment of its own."""
