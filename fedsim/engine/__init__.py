"""The round without Ray."""
