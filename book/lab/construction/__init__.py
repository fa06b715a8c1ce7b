"""The construction step by step."""
