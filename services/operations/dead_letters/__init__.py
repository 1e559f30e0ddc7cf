"""The dead letters, for those who operate the processes: shown, and written back where they came from."""
