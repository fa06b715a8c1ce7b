"""How good an estimator of one draw can be: bounds, flows, and draws that depend on draws."""
