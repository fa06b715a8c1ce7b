"""The search for a better default: candidates, and the problems on which they are tried.

Chapter: ``search``.
"""
