"""The processes. One folder is one process; they meet on the wire, never by import."""
