"""Draws beyond categories on real data: counts in a VAE of digits, a mixture as a posterior.

``counts`` and ``posterior`` are the two problems, ``rates`` and ``components`` the methods on
them, ``protocol`` is what is tuned, run and recorded, ``counts_quality`` and ``mixture_quality``
measure bias and variance, ``report`` makes the tables.
"""
