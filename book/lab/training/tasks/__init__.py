"""The problems, one module each; ``TASKS`` names them."""

from lab.training.task import Task
from lab.training.tasks.autoencoder import Autoencoder, Halves
from lab.training.tasks.bandit import Bandit
from lab.training.tasks.bits import Bits
from lab.training.tasks.clusters import Clusters
from lab.training.tasks.codebook import Codebook
from lab.training.tasks.control import Control
from lab.training.tasks.experts import Experts
from lab.training.tasks.polynomial import Polynomial
from lab.training.tasks.sparse import SparseExperts
from lab.training.tasks.subset import Subset

__all__ = ["PUBLISHED", "TASKS", "TUNED", "VAES"]

# Categories and variables, in the order of the ReinMax paper.
VAES = ((8, 4), (4, 24), (8, 16), (16, 12), (64, 8), (10, 30))

# One problem of each kind has every method, the others have the main ones.
_TUNED: tuple[Task, ...] = (
    Bits(),
    *(Polynomial(power=power, main_only=power != 2) for power in (1.5, 2.0, 3.0)),
    *(Polynomial(categories=count, variables=16, main_only=True) for count in (8, 32)),
    *(Clusters(categories=count, main_only=count != 10) for count in (3, 5, 10, 20)),
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

# Batch and steps of the authors' code.
_PUBLISHED = (Polynomial(draws=64, steps=8000, published=True),)

PUBLISHED = tuple(task.name for task in _PUBLISHED)
"""The polynomial problem as Liu et al. (2023) ran it."""

TASKS: dict[str, Task] = {task.name: task for task in (*_TUNED, *_PUBLISHED)}
"""Every problem, by name."""
