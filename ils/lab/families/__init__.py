"""Distributions beyond the categorical: exact bias and variance of gradient estimators of a draw."""
