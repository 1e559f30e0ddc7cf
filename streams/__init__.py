"""The wire and the engine: records, topics, codecs and batches. Knows no service."""
