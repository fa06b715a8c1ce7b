"""Experiments and figures of the chapter "The construction in numbers"."""
