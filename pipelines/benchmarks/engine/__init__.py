"""The simulator against plain loops over the same work."""
