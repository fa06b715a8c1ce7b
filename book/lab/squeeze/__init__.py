"""The bound, and its ladder of draws."""
