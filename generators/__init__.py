"""Generators: what draws and repaints images."""
