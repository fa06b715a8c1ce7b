"""The tests of the operator once more, with the compiled kernel in its place."""

import pytest

from ils.kernel.build import missing
from test_everywhere import *  # noqa: F403
from test_invariance import *  # noqa: F403
from test_operator import *  # noqa: F403
from test_properties import *  # noqa: F403

LACKING = missing()
pytestmark = [
    pytest.mark.kernel,
    pytest.mark.skipif(LACKING is not None, reason=f"the kernel needs {LACKING}"),
]
