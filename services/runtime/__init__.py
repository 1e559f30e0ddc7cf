"""What every process needs: settings, the declaration of a model, Kafka, Redis, HTTP, metrics, logs."""
