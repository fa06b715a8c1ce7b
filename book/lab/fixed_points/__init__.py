"""Fixed points of each method on the toy problem."""
