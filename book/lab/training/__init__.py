"""Training problems, and the protocol under which methods are compared on them.

``task`` defines what a problem is, ``tasks`` holds the problems, ``contestants`` the methods,
``train`` runs many seeds and learning rates of one method as one tensor program, ``protocol``
tunes and then measures.
"""
