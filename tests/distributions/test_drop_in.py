"""Each class is the one of torch.distributions of its name, but for the draw."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from cases import generator
from drop_in import FAMILIES, Family, every_family, update
from torch import Tensor
from torch.distributions import kl_divergence

from ils import distributions

ATTRIBUTES = (
    *("mean", "variance", "stddev", "mode", "probs", "logits"),
    *("batch_shape", "event_shape", "param_shape", "has_enumerate_support"),
)
# Moments that are computed without leaving the range of the numbers.
IN_ANOTHER_ORDER = {
    "Beta": {"variance", "stddev"},
    "Dirichlet": {"variance", "stddev"},
    "NegativeBinomial": {"mean", "variance", "stddev"},
}


def answer(distribution: Any, name: str) -> Any:
    """An attribute, or the class of the error that there is in its place."""
    try:
        found = getattr(distribution, name)
    except (AttributeError, NotImplementedError) as error:
        return type(error)
    return found


def error_of(function: Any) -> tuple[type[Exception], str] | None:
    """What a call raises, or None."""
    try:
        function()
    except Exception as error:
        return type(error), str(error)
    return None


@every_family
def test_attributes(family: Family) -> None:
    """Moments, shapes and constraints are those of the parent, and it is an instance of it."""
    params = family.params(4, 2)
    ours, parent = family.ours(**params), family.parent(**params)
    assert isinstance(ours, family.parent)
    assert type(ours) is not family.parent
    assert repr(ours) == repr(parent)
    for name in ATTRIBUTES:
        found, wanted = answer(ours, name), answer(parent, name)
        if isinstance(wanted, Tensor):
            assert found.dtype == wanted.dtype
            if family.name == "VonMises":  # that of the parent is good to seven digits
                assert torch.allclose(found, wanted, rtol=1e-6), name
            elif name in IN_ANOTHER_ORDER.get(family.name, ()):
                assert torch.allclose(found, wanted, rtol=1e-13, atol=0), name
            else:
                assert torch.equal(found, wanted), name
        else:
            assert found == wanted, name
    assert ours.arg_constraints == parent.arg_constraints
    assert type(ours.support) is type(parent.support)
    assert str(ours.support) == str(parent.support)
    assert ours.has_rsample is True


def alike(family: Family, found: Tensor, wanted: Tensor) -> bool:
    """Equal, or, for those with formulas of their own, to the last digits."""
    if family.name in ("Bernoulli", "Binomial", "Geometric", "NegativeBinomial"):
        return found.dtype == wanted.dtype and torch.allclose(found, wanted, rtol=1e-12, atol=1e-12)
    return torch.equal(found, wanted)


@every_family
def test_density_and_entropy(family: Family) -> None:
    """log_prob and entropy, their gradients, cdf and the support are those of the parent."""
    leaves = family.leaves(4, 2)
    ours, parent = family.ours(**leaves), family.parent(**leaves)
    z = ours.sample(torch.Size([3]), generator(1))
    trained = [leaves[name] for name in family.trained]
    answers = []
    for q in (ours, parent):
        gradients = torch.autograd.grad(q.log_prob(z).sum(), trained, retain_graph=True)
        answers.append([q.log_prob(z), *gradients])
    for found, wanted in zip(*answers, strict=True):
        if family.name == "VonMises":  # the density of the parent is good to seven digits
            assert torch.allclose(found, wanted, rtol=1e-5, atol=1e-6)
        else:
            assert alike(family, found, wanted)
    assert answers[0][0].shape == (3, 4, 2)
    if error_of(parent.entropy) is None:
        assert alike(family, ours.entropy(), parent.entropy())
    elif family.name != "VonMises":
        assert error_of(ours.entropy) == error_of(parent.entropy)
    if error_of(lambda: parent.cdf(z)) is None:
        assert torch.equal(ours.cdf(z), parent.cdf(z))
    if parent.has_enumerate_support:
        assert torch.equal(ours.enumerate_support(), parent.enumerate_support())


@every_family
@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "used"])
def test_expand(family: Family, warm: bool) -> None:
    """An expanded distribution is one of its class, draws its own shape and trains the original."""
    leaves = family.leaves(4)
    q = family.ours(**leaves)
    if warm:  # The other of probs and logits is there, too.
        q.log_prob(q.sample(generator=generator(2)))
    wide = q.expand((3, 4))
    assert type(wide) is family.ours
    assert wide.batch_shape == (3, 4)
    z = wide.rsample((2,), generator(3))
    assert z.shape == (2, 3, 4, *family.event)
    assert not torch.equal(z[0, 0], z[0, 1])
    same = family.ours(**{name: leaf.expand(3, 4, *family.event) for name, leaf in leaves.items()})
    wanted = same.rsample((2,), generator(3))
    assert torch.equal(z, wanted)
    for name, found in update(z, leaves).items():
        other = update(wanted, leaves)[name]
        assert found.shape == leaves[name].shape
        assert found.abs().max() > 1e-3
        assert torch.allclose(found, other, rtol=1e-12, atol=1e-12), name
    assert torch.equal(wide.log_prob(z.detach()), same.log_prob(z.detach()))
    assert wide.expand((5, 3, 4)).batch_shape == (5, 3, 4)


@every_family
def test_expand_keeps_validate_args(family: Family) -> None:
    """Whether values are checked goes along to the expanded distribution."""
    params = family.params(4)
    outside = torch.full((3, 4, *family.event), torch.nan, dtype=torch.float64)
    for validate_args in (True, False):
        ours, parent = (
            cls(**params, validate_args=validate_args).expand((3, 4))
            for cls in (family.ours, family.parent)
        )
        found = error_of(lambda q=ours: q.log_prob(outside))
        assert found == error_of(lambda q=parent: q.log_prob(outside))
        assert (found is None) is not validate_args


@every_family
def test_bad_parameters(family: Family) -> None:
    """Parameters outside their constraints get the parent's error, and none without validation."""
    for name in family.maps:
        for bad in (-1.5, torch.nan, torch.inf):
            params = family.params(4)
            params[name] = params[name].clone()
            params[name].view(-1)[0] = bad
            found = error_of(lambda p=params: family.ours(**p, validate_args=True))
            assert found == error_of(lambda p=params: family.parent(**p, validate_args=True))
            # Minus 1.5 is a location; infinity is a positive number.
            if bad != bad or (bad < 0 and name not in ("loc", "logits")):
                assert found is not None
                assert found[0] is ValueError
            found = error_of(lambda p=params: family.ours(**p, validate_args=False))
            assert found == error_of(lambda p=params: family.parent(**p, validate_args=False))
            # The one within the parent's OneHotCategorical is always checked.
            assert found is None or family.name == "OneHotCategorical"


@every_family
def test_bad_values(family: Family) -> None:
    """Values outside the support, or of another shape, get the parent's error."""
    params = family.params(4)
    for value in (
        torch.full((4, *family.event), -1.5).double(),
        torch.full((4, *family.event), 0.5).double(),
        torch.full((4, *family.event), torch.nan).double(),
        torch.zeros((3, *family.event)).double(),
    ):
        ours, parent = (c(**params, validate_args=True) for c in (family.ours, family.parent))
        found = error_of(lambda q=ours, v=value: q.log_prob(v))
        assert found == error_of(lambda q=parent, v=value: q.log_prob(v))
        if value.isnan().any():
            assert found is not None
            assert found[0] is ValueError
    unchecked = family.ours(**params, validate_args=False)
    assert error_of(lambda: unchecked.log_prob(torch.full((4, *family.event), -1.5))) is None


def test_bad_arguments() -> None:
    """Neither or both of probs and logits, and shapes that do not fit, get the parent's error."""
    half = torch.full((2,), 0.5)
    for name in ("Bernoulli", "Geometric", "OneHotCategorical", "Categorical"):
        ours, parent = getattr(distributions, name), getattr(torch.distributions, name)
        for arguments in ({}, {"probs": half, "logits": half}):
            found = error_of(lambda c=ours, a=arguments: c(**a))
            assert found == error_of(lambda c=parent, a=arguments: c(**a))
            assert found is not None
    for name in ("Normal", "Gamma", "Beta", "VonMises", "Binomial", "NegativeBinomial"):
        ours, parent = getattr(distributions, name), getattr(torch.distributions, name)
        found = error_of(lambda c=ours: c(torch.ones(2), half.repeat(2)[:3]))
        assert found == error_of(lambda c=parent: c(torch.ones(2), half.repeat(2)[:3]))
        assert found is not None


@every_family
def test_divergences(family: Family) -> None:
    """kl_divergence of any mixture of ours and the parent's is that of the parents."""
    pair = [family.params(4, seed=seed) for seed in (5, 15)]
    ours, parents = ([cls(**p) for p in pair] for cls in (family.ours, family.parent))
    mixtures = [ours, [ours[0], parents[1]], [parents[0], ours[1]]]
    if error_of(lambda: kl_divergence(*parents)) is not None:
        # Formulas that the parents lack are held in test_new_formulas.
        assert family.name in ("VonMises", "NegativeBinomial")
        return
    wanted = kl_divergence(*parents)
    assert wanted.max() > 0.05
    for p, q in mixtures:
        assert alike(family, kl_divergence(p, q), wanted)


@every_family
def test_divergence_trains(family: Family) -> None:
    """Its gradient reaches the parameters of both, and that of a distribution from itself is 0."""
    first, second = family.leaves(4, seed=5), family.leaves(4, seed=25)
    if "total_count" in family.maps:
        second["total_count"] = first["total_count"] = torch.full((4,), 3.0).double()
    p, q = family.ours(**first), family.ours(**second)
    leaves = [leaf for leaf in (*first.values(), *second.values()) if leaf.requires_grad]
    for gradient in torch.autograd.grad(kl_divergence(p, q).sum(), leaves):
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 1e-3
    assert kl_divergence(p, p).abs().max() < 1e-12


@every_family
def test_copies(family: Family) -> None:
    """Copied or pickled it draws the same, and the copy is of its class."""
    q = family.make(4)
    z = q.rsample((3,), generator(6))
    q.log_prob(z)
    for twin in (copy.copy(q), copy.deepcopy(q), pickle.loads(pickle.dumps(q))):
        assert type(twin) is family.ours
        assert torch.equal(twin.rsample((3,), generator(6)), z)
        assert torch.equal(twin.log_prob(z), q.log_prob(z))


@pytest.mark.parametrize("name", distributions.__all__)
def test_the_class_says_what_the_parents_says(name: str) -> None:
    """Constraints, support and whether there is a gradient are read off the class, too.

    What depends on the instance is said of that which is like the parent.
    """
    ours, parent = getattr(distributions, name), getattr(torch.distributions, name)
    assert ours.arg_constraints == parent.arg_constraints
    assert ours.has_enumerate_support == parent.has_enumerate_support
    assert type(ours.support) is type(parent.support)
    for question in ("is_discrete", "event_dim"):
        assert answer(ours.support, question) == answer(parent.support, question)
    if name in ("Categorical", "MixtureSameFamily"):
        assert ours.has_rsample is parent.has_rsample is False
    elif name != "Independent":
        assert ours.has_rsample is True
    assert ours.__hash__ is parent.__hash__


def test_other_names_are_pytorchs() -> None:
    """What is not here is found in torch.distributions, and what is nowhere is an error."""
    for name in ("Uniform", "Laplace", "constraints", "transforms", "biject_to", "register_kl"):
        assert getattr(distributions, name) is getattr(torch.distributions, name)
    for name in torch.distributions.__all__:
        assert hasattr(distributions, name)
    with pytest.raises(AttributeError, match="no_such_family"):
        _ = distributions.no_such_family
    for name in distributions.__all__:
        assert issubclass(getattr(distributions, name), getattr(torch.distributions, name))
        assert getattr(distributions, name) is not getattr(torch.distributions, name)
    assert {*torch.distributions.__all__, *distributions.__all__} <= set(dir(distributions))


def test_every_class_is_tested() -> None:
    """The families and what is made of others are all that there is."""
    others = {"Categorical", "Independent", "MixtureSameFamily"}
    assert {family.name for family in FAMILIES.values()} | others == set(distributions.__all__)


@pytest.mark.parametrize("validate_args", [True, False])
def test_numbers(validate_args: bool) -> None:
    """Python numbers are parameters, as they are of the parent; the draw is a scalar."""
    for family in FAMILIES.values():
        if family.event or "logits" in family.maps:
            continue
        params = {name: {"probs": 0.5, "total_count": 3}.get(name, 2.0) for name in family.maps}
        q, parent = (c(**params, validate_args=validate_args) for c in (family.ours, family.parent))
        z = q.rsample(generator=generator(8))
        assert z.shape == ()
        assert z.dtype == torch.float32
        assert torch.equal(q.log_prob(z), parent.log_prob(z))
        assert q.rsample((2, 3)).shape == (2, 3)
