"""The second execution of the views: over archived events and batch sources, to the same bits."""
