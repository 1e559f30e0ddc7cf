"""Apache Kafka, Valkey and MLflow on this machine, started from Python packages alone."""
