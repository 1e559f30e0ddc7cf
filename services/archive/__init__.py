"""Topics -> Delta tables: the inference log, each commit with the Kafka positions that it reaches."""
