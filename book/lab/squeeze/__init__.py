"""The note's bound on the divergence, and its ladder of ``n`` draws."""
