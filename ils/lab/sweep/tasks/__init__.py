"""The problems, one module each; ``TASKS`` names them."""

from ils.lab.sweep.task import Task
from ils.lab.sweep.tasks.autoencoder import Autoencoder, Halves
from ils.lab.sweep.tasks.bandit import Bandit
from ils.lab.sweep.tasks.bits import Bits
from ils.lab.sweep.tasks.clusters import Clusters
from ils.lab.sweep.tasks.codebook import Codebook
from ils.lab.sweep.tasks.control import Control
from ils.lab.sweep.tasks.experts import Experts
from ils.lab.sweep.tasks.polynomial import Polynomial
from ils.lab.sweep.tasks.subset import Subset

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
