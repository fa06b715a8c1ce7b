"""Settings shared by all tests."""

import os

# Before torch is imported: with one thread sums have one order, whatever the machine, and
# parallel workers do not fight over cores.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")
