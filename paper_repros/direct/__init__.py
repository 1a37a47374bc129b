"""Direct alignment."""
