"""What stands beside the estimators on the codebook, against its closed formulas in float64."""

from __future__ import annotations

import pytest
import torch
from cases import close, normal
from torch import Tensor

from lab.training.task import Stream
from lab.training.tasks.codebook import Codebook, copied, levels, rotated


class Double(Codebook):
    """With images in float64."""

    def split(self, images: Tensor) -> tuple[Tensor, Tensor]:
        first, second = super().split(images)
        return first.double(), second.double()


TASK = Double()


def pulled(carry: object, piece: Tensor, code: Tensor) -> Tensor:
    """The matrix that takes the decoder's gradient to the piece's, row by row of the former."""
    return torch.autograd.functional.jacobian(lambda x: carry(x, code), piece)  # type: ignore[operator]


def test_rotation_trick() -> None:
    """The code forward; backward a rotation in the plane of piece and code times their ratio."""
    for seed in range(20):
        piece, code = normal(2, 8, seed=seed)
        assert close(rotated(piece, code), code, 1e-10)
        found = pulled(rotated, piece, code)
        ratio = code.norm() / piece.norm()
        # The rotation by its angle in an orthonormal basis of the plane.
        e, q = piece / piece.norm(), code / code.norm()
        cos = e @ q
        v = (q - cos * e) / (1 - cos**2).sqrt()
        outer = torch.outer
        turn = torch.eye(8).double() + (1 - cos**2).sqrt() * (outer(v, e) - outer(e, v))
        turn += (cos - 1) * (outer(e, e) + outer(v, v))
        assert close(found, ratio * turn, 1e-10)
        assert close(turn @ turn.T, torch.eye(8).double(), 1e-10)
        # The decoder's gradient is at the same angle to the code as what arrives to the piece.
        grad = normal(8, seed=100 + seed)
        arrived = found.T @ grad
        assert abs((arrived / arrived.norm()) @ e - (grad / grad.norm()) @ q) < 1e-10
        # False: the copied gradient is so too, or it is the same.
        other = pulled(copied, piece, code).T @ grad
        assert close(other, grad, 1e-10)
        assert abs((other / other.norm()) @ e - (grad / grad.norm()) @ q) > 1e-3


def test_levels() -> None:
    """Eight by four combinations, all reached, evenly spaced; the bound's derivative."""
    line = torch.linspace(-4, 4, 401, dtype=torch.float64)
    pieces = torch.cartesian_prod(line, line)
    pieces = torch.cat([pieces, normal(len(pieces), 6)], -1).requires_grad_()
    found, index = levels(pieces)
    assert index.unique().tolist() == list(range(TASK.categories))
    assert len(found.detach().unique(dim=0)) == TASK.categories
    # One combination has one index.
    assert len(torch.cat([found.detach(), index[:, None]], -1).unique(dim=0)) == TASK.categories
    eighths, quarters = found.detach()[:, 0].unique(), found.detach()[:, 1].unique()
    assert close(eighths, torch.arange(-4, 4).double() / 4, 1e-10)
    assert close(quarters, torch.arange(-2, 2).double() / 2, 1e-10)
    (slope,) = torch.autograd.grad(found.sum(), pieces)
    assert not slope[:, 2:].any()
    for place, count in enumerate((8, 4)):
        half = 0.999 * (count - 1) / 2
        inner = pieces.detach()[:, place] + torch.tensor(0.5 / half).double().tan()
        wanted = half * (1 - inner.tanh() ** 2) / (count / 2)
        assert close(slope[:, place], wanted, 1e-7)
        # The level is the nearest to the bounded number.
        bounded = half * inner.tanh() - 0.5
        assert ((found.detach()[:, place] * count / 2 - bounded).abs() <= 0.5 + 1e-6).all()


@pytest.mark.parametrize("name", ["rotation trick", "FSQ"])
def test_what_is_measured_is_the_forward_pass(name: str) -> None:
    """On the whole validation data: the loss without the terms that pull, and codes in use."""
    parameters = {n: p.double() for n, p in TASK.start(Stream([1, 2])).items()}
    own = TASK.own[name]
    evaluate = own.evaluate or TASK.evaluate
    found = evaluate(parameters, "validation")
    images = TASK.images.part("validation").flatten(-2).double()
    batch = (images.expand(2, *images.shape),) * 2
    objective = own.objective(parameters, batch, 0.0)
    if name == "FSQ":
        assert close(found[TASK.measure], objective, 1e-10)
        # False: the measure with the nearest code, which is not its forward pass.
        nearest = TASK.evaluate(parameters, "validation")
        assert not close(found[TASK.measure], nearest[TASK.measure], 0.1)
        codes = levels(TASK._pieces(parameters, batch))[1]
    else:
        codes = TASK.logits(parameters, batch).argmax(-1)
        pieces = TASK._pieces(parameters, batch)
        chosen = torch.stack([c[i] for c, i in zip(parameters["codes"], codes, strict=True)])
        pull = 1.25 * ((chosen - pieces) ** 2).sum((-1, -2)).mean(-1)
        assert close(found[TASK.measure], objective - pull, 1e-8)
    for run, code in enumerate(codes):
        share = code.flatten().bincount(minlength=32) / code.numel()
        wanted = torch.distributions.Categorical(share.double()).entropy().exp()
        assert abs(found["perplexity of the codes"][run] - wanted) < 1e-4


@pytest.mark.parametrize("name", ["VQ-VAE", "rotation trick"])
def test_the_decoder_teaches_the_encoder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the term that pulls pieces to their codes, too."""
    monkeypatch.setattr("lab.training.tasks.codebook._COMMITMENT", 0.0)
    stream = Stream([1, 2])
    parameters = {n: p.double().requires_grad_() for n, p in TASK.start(stream).items()}
    batch = TASK.batch(parameters, stream, torch.Generator())
    objective = TASK.own[name].objective(parameters, batch, 0.0).sum()
    assert torch.autograd.grad(objective, parameters["in1.weight"])[0].abs().sum() > 0
