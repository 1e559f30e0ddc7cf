"""The second execution of the stream views: over the archived events instead of the stream, to the same bits."""
