"""Where each method comes to rest on the toy problem."""
