"""The scoring job: read ten features of an entity from the online store, predict, write JSON."""
