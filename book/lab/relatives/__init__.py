"""The map of relatives."""
