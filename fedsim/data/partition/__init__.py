"""Who has which samples."""
