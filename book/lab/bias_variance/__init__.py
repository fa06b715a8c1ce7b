"""Exact bias and variance of every estimator, and the bias-variance plane."""
