"""Self-improvement and data."""
