"""The second execution of the stream views: over archived events instead of the stream, to the same bits."""
