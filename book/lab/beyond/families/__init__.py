"""Draws beyond the categorical: exact bias and variance of the estimators of their gradient."""
