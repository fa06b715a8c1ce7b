"""What every estimator owes: shapes, batches, generators, masks, types, clear errors."""
