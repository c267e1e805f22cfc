"""Presets: YAML files, one model family each."""
