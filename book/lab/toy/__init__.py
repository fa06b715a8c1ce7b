"""Experiment 1: the note's toy problem, as in the note and as a fair comparison."""
