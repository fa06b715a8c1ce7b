"""Exact bias and variance of every estimator, and their plane."""
