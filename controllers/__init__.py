"""Controllers: what finds and explains the faults of an image."""
