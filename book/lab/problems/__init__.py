"""Losses that can be enumerated."""
