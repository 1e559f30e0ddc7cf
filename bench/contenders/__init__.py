"""The others, each written as its own documentation advises, or as a good engineer would by hand."""
