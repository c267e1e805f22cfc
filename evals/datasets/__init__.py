"""Published sets on which a controller is measured, read as they were released."""
