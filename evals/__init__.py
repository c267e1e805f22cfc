"""Evaluation: rewards, metrics and the held-out judge."""
