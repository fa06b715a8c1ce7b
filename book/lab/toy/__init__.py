"""The note's experiment."""
