"""What lies on this machine: models by name and hash. No torch."""
