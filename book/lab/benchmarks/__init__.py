"""The benchmarks: every method on every training problem, and the summaries.

``sweep`` tunes and runs all methods, ``studies`` measures a VAE as it trains, ``vae_sweep`` does
with VAEs of real size what ``sweep`` does, ``report`` summarises, ``figures`` draws.  Problems,
methods and protocol are those of ``lab.training``.
"""
