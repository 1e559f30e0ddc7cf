"""HTTP: the server, tokens, rate limits, request ids."""
