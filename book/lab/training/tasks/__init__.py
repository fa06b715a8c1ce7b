"""The problems, one module each; ``TASKS`` names them."""

from lab.training.task import Task
from lab.training.tasks.autoencoder import Autoencoder, Halves
from lab.training.tasks.bandit import Bandit
from lab.training.tasks.bits import Bits
from lab.training.tasks.clusters import Clusters
from lab.training.tasks.codebook import Codebook
from lab.training.tasks.control import Control
from lab.training.tasks.experts import Experts
from lab.training.tasks.polynomial import EMBEDDED, Polynomial
from lab.training.tasks.sparse import SparseExperts
from lab.training.tasks.subset import Subset

__all__ = ["PUBLISHED", "REPEATED", "TASKS", "TUNED", "VAES"]

# Categories and variables, of those in the ReinMax paper.
VAES = ((8, 4), (4, 24), (8, 16), (10, 30))

# One problem of each kind has every method, the others have the main ones.
_TUNED: tuple[Task, ...] = (
    Bits(),
    *(Polynomial(power=power, main_only=power != 2) for power in (1.5, 2.0, 3.0)),
    *(Polynomial(categories=count, variables=16, main_only=True) for count in (8, 32)),
    *(Clusters(categories=count, main_only=count != 10) for count in (10, 20)),
    Subset(),
    Bandit(),
    Control(),
    Experts(),
    SparseExperts(),
    Codebook(),
    Halves(8, 16, main_only=True),
    *(Autoencoder(*shape, main_only=shape != (8, 4)) for shape in VAES),
)

TUNED = tuple(task.name for task in _TUNED)
"""Problems on which every method is tuned."""

REPEATED = (
    *(task.name for task in _TUNED if not task.main_only),
    "halves-8x16",
)
"""Problems on which the methods are compared with several evaluations a step."""

# Batch and steps of the authors' code: Liu et al. (2023), and Hooper and Shekhovtsov (2026).
_LIU = Polynomial(draws=64, steps=8000, published="liu")
_HOOPER = tuple(
    Polynomial(
        power=power, categories=4, draws=8, steps=10_000, published=published, numbers=numbers
    )
    for published, numbers in (("hooper", EMBEDDED), ("integers", ()))
    for power in (1.5, 2.0, 3.0)
)
_PUBLISHED = (_LIU, *_HOOPER)

PUBLISHED = tuple(task.name for task in _PUBLISHED)
"""The polynomial problem as others ran it."""

TASKS: dict[str, Task] = {task.name: task for task in (*_TUNED, *_PUBLISHED)}
"""Every problem, by name."""
