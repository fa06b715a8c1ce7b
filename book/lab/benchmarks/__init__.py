"""The benchmarks: every method on every training problem, and the summaries.

``sweep`` tunes and runs all methods, ``studies`` measures a VAE as it trains, ``mnist`` trains one
on MNIST, ``report`` summarises, ``figures`` draws.  Problems, methods and protocol are those of
``lab.training``.
"""
