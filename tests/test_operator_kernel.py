"""The tests of the operator once more, with the compiled kernel in its place."""

# ruff: noqa: F401 (imported names are the tests)

import pytest
from test_everywhere import (
    test_activation_checkpointing,
    test_autocast,
    test_broadcast_logits_collect_their_gradients,
    test_gradients_per_example,
    test_layouts,
    test_loss_scaling,
    test_modes_without_gradient,
    test_result_can_be_changed_in_place,
)
from test_invariance import test_factor_of_the_loss, test_splits_of_the_batch
from test_operator import *  # noqa: F403

from ils.kernel.build import missing

LACKING = missing()
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(LACKING is not None, reason=f"the kernel needs {LACKING}"),
]
