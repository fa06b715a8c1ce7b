"""The law of a draw, by tests whose false alarms have a stated probability.

Every p-value is compared with one in a million, and every moment with five standard errors, one in
two million: with some two hundred of them, a correct program fails with another seed once in five
thousand times.  Each test of a law is then given one that is off by a fifth, and must see that.
"""

from __future__ import annotations

import math

import pytest
import scipy.stats
import torch
from cases import generator
from torch import Tensor

from ils import distributions

DRAWS = 20_000
LEVEL = 1e-6

COUNTS: dict[str, tuple[str, dict[str, float]]] = {
    "Bernoulli": ("Bernoulli", {"probs": 0.3}),
    "Bernoulli-logits": ("Bernoulli", {"logits": -1.0}),
    "Binomial": ("Binomial", {"total_count": 7, "probs": 0.3}),
    "Binomial-large": ("Binomial", {"total_count": 100, "probs": 0.4}),
    "Poisson": ("Poisson", {"rate": 2.5}),
    "Poisson-large": ("Poisson", {"rate": 40.0}),
    "Geometric": ("Geometric", {"probs": 0.3}),
    "Geometric-logits": ("Geometric", {"logits": 1.0}),
    "NegativeBinomial": ("NegativeBinomial", {"total_count": 2.5, "probs": 0.4}),
    "NegativeBinomial-small": ("NegativeBinomial", {"total_count": 0.2, "logits": 2.0}),
}
CONTINUOUS: dict[str, tuple[str, dict[str, float]]] = {
    "Normal": ("Normal", {"loc": 1.0, "scale": 2.0}),
    "Gamma-small": ("Gamma", {"concentration": 0.3, "rate": 2.0}),
    "Gamma": ("Gamma", {"concentration": 4.0, "rate": 0.5}),
    "Beta": ("Beta", {"concentration1": 0.5, "concentration0": 2.0}),
    "VonMises-flat": ("VonMises", {"loc": 0.5, "concentration": 0.2}),
    "VonMises": ("VonMises", {"loc": -3.0, "concentration": 1.5}),
    "VonMises-sharp": ("VonMises", {"loc": 2.0, "concentration": 400.0}),
}


def draw(
    name: str, params: dict[str, float], seed: int = 1, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Draws that carry a gradient, without it."""
    leaves = {k: torch.tensor(v, dtype=dtype).requires_grad_() for k, v in params.items()}
    leaves = {k: v.detach() if k == "total_count" else v for k, v in leaves.items()}
    z = getattr(distributions, name)(**leaves).rsample((DRAWS,), generator(seed))
    assert z.requires_grad
    return z.detach().double()


def off(params: dict[str, float]) -> dict[str, float]:
    """The same with the last parameter a fifth larger, or, of a flat law, doubled."""
    last = [*params][-1]
    return params | {last: params[last] * (1.2 if params[last] != 0.2 else 2)}


def chi_square(name: str, params: dict[str, float], z: Tensor) -> float:
    """The p-value of counts, pooled so that every class has 20 expected ones or more."""
    q = getattr(torch.distributions, name)(
        **{k: torch.tensor(v, dtype=torch.float64) for k, v in params.items()}, validate_args=False
    )
    most = int(z.max()) + 1 if q.support.is_discrete and name not in ("Bernoulli",) else 2
    if name == "Binomial":
        most = int(params["total_count"]) + 1
    probs = q.log_prob(torch.arange(most, dtype=torch.float64)).exp()
    wanted = torch.cat([probs, (1 - probs.sum()).clamp(min=0)[None]]) * DRAWS
    found = torch.bincount(z.long(), minlength=most + 1).double()
    classes, row = [], torch.zeros(2, dtype=torch.float64)
    for pair in torch.stack([found, wanted], -1):
        row = row + pair
        if row[1] >= 20:
            classes.append(row)
            row = torch.zeros(2, dtype=torch.float64)
    classes[-1] = classes[-1] + row
    observed, expected = torch.stack(classes, -1)
    return float(scipy.stats.chisquare(observed, expected, sum_check=False).pvalue)


def kolmogorov(name: str, params: dict[str, float], z: Tensor) -> float:
    """The p-value of the largest distance between distribution functions."""
    if name == "VonMises":
        z = (z - params["loc"] + math.pi) % (2 * math.pi) - math.pi
    law = {
        "Normal": lambda p: scipy.stats.norm(p["loc"], p["scale"]),
        "Gamma": lambda p: scipy.stats.gamma(p["concentration"], scale=1 / p["rate"]),
        "Beta": lambda p: scipy.stats.beta(p["concentration1"], p["concentration0"]),
        "VonMises": lambda p: scipy.stats.vonmises(p["concentration"]),
    }[name](params)
    return float(scipy.stats.kstest(z.numpy(), law.cdf).pvalue)


HALF = (torch.float16, torch.bfloat16)
BY_TYPE = [(case, torch.float64) for case in COUNTS] + [
    (case, dtype) for case in COUNTS if "large" not in case for dtype in HALF
]


@pytest.mark.parametrize(("case", "dtype"), BY_TYPE)
def test_law_of_counts(case: str, dtype: torch.dtype) -> None:
    """Counts have the frequencies of the parent's density, of the parameters as rounded."""
    name, params = COUNTS[case]
    params = {k: float(torch.tensor(v, dtype=dtype)) for k, v in params.items()}
    z = draw(name, params, dtype=dtype)
    assert torch.equal(z, z.floor())
    assert chi_square(name, params, z) > LEVEL
    assert chi_square(name, off(params), z) < LEVEL


@pytest.mark.parametrize("case", CONTINUOUS)
def test_law_of_numbers(case: str) -> None:
    """Numbers have the distribution function of the family."""
    name, params = CONTINUOUS[case]
    z = draw(name, params)
    assert kolmogorov(name, params, z) > LEVEL
    assert kolmogorov(name, params, draw(name, off(params), 2)) < LEVEL


def test_law_of_dirichlet() -> None:
    """Each entry of a Dirichlet draw is a beta draw, and two of them are correlated as they should.

    The correlation is taken to five of its standard errors, one in two million.
    """
    concentration = torch.tensor([0.4, 1.0, 3.0], dtype=torch.float64, requires_grad=True)
    z = distributions.Dirichlet(concentration).rsample((DRAWS,), generator(3)).detach()
    a = concentration.detach()
    total = float(a.sum())
    for entry in range(3):
        law = scipy.stats.beta(float(a[entry]), total - float(a[entry]))
        assert scipy.stats.kstest(z[:, entry].numpy(), law.cdf).pvalue > LEVEL
        wrong = scipy.stats.beta(1.2 * float(a[entry]), total - float(a[entry]))
        assert scipy.stats.kstest(z[:, entry].numpy(), wrong.cdf).pvalue < LEVEL
    product = (z[:, 0] - a[0] / total) * (z[:, 2] - a[2] / total)
    wanted = -a[0] * a[2] / (total**2 * (total + 1))
    error = product.std() / DRAWS**0.5
    assert abs(product.mean() - wanted) < 5 * error
    assert 5 * error < 0.2 * abs(wanted)


def test_law_of_nearly_flat_and_very_sharp_angles() -> None:
    """At the ends of the range angles are uniform, or normal with the variance 1 / kappa."""
    for kappa in (5e-324, 1e-310, 1e-300, 1e-8, 1e-4):
        z = draw("VonMises", {"loc": 1.0, "concentration": kappa})
        uniform = scipy.stats.uniform(-math.pi, 2 * math.pi)
        assert scipy.stats.kstest(z.numpy(), uniform.cdf).pvalue > LEVEL
    for kappa in (1e4, 1e6, 1e8, 1e12):  # from where the rejection would not end
        z = draw("VonMises", {"loc": 1.0, "concentration": kappa})
        assert scipy.stats.kstest(((z - 1) * kappa**0.5).numpy(), "norm").pvalue > LEVEL
        assert scipy.stats.kstest(((z - 1) * (1.2 * kappa) ** 0.5).numpy(), "norm").pvalue < LEVEL
    for kappa in (1e18, 1e40, math.inf):
        z = draw("VonMises", {"loc": 0.5, "concentration": kappa})
        assert float((z - 0.5).abs().max()) <= 6 * kappa**-0.5 + 1e-15


TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
every_type = pytest.mark.parametrize("dtype", TYPES, ids=str)
LAW = (0.5, 0.25, 0.0, 0.1875, 0.0625)


def categories(form: str, by: str, law: Tensor, draws: int, seed: int) -> Tensor:
    """Indices of draws of a class, of which categories are probabilities or logits."""
    value = (law.clone() if by == "probs" else law.log()).requires_grad_()
    given = {by: value, "validate_args": by == "probs"}
    rows = torch.arange(len(law), dtype=law.dtype)
    if form == "OneHotCategorical":
        one_hot = distributions.OneHotCategorical(**given)
        return one_hot.rsample((draws,), generator(seed)).argmax(-1)
    if form == "Categorical":
        return distributions.Categorical(**given).sample((draws,), generator(seed))
    if form == "expanded":
        q = distributions.Categorical(**given)
        q.log_prob(torch.tensor(0))  # makes the parent's clamped logits
        return q.expand((2,)).sample((draws // 2,), generator(seed)).flatten()
    if form == "expanded one-hot":
        q = distributions.OneHotCategorical(**given)
        _ = q.logits
        return q.expand((2,)).sample((draws // 2,), generator(seed)).argmax(-1).flatten()
    if form == "table":
        q = distributions.Categorical(**given, weight=rows[:, None])
        return q.rsample((draws,), generator(seed)).detach().squeeze(-1).long()
    module = torch.distributions if form == "mixture of a parent's" else distributions
    q = distributions.MixtureSameFamily(
        module.Categorical(**given), distributions.Normal(rows, torch.zeros_like(rows) + 2.0**-14)
    )
    if form == "expanded mixture":
        q = q.expand((2,))
        draws //= 2
    return q.rsample((draws,), generator(seed)).detach().round().long().flatten()


FORMS = (
    *("OneHotCategorical", "Categorical", "table", "mixture", "mixture of a parent's"),
    *("expanded", "expanded one-hot", "expanded mixture"),
)


@every_type
@pytest.mark.parametrize("by", ["probs", "logits"])
@pytest.mark.parametrize("form", FORMS)
def test_law_of_categories(form: str, by: str, dtype: torch.dtype) -> None:
    """Categories have their probabilities, in every type, and one of probability zero never comes.

    That of the half types is taken to the rounding of their logits, a two hundredth.
    """
    law = torch.tensor(LAW, dtype=dtype)
    found = torch.bincount(categories(form, by, law, DRAWS, 11), minlength=5)
    assert int(found[2]) == 0
    some = [0, 1, 3, 4]
    true = law.detach().double()[some]
    assert scipy.stats.chisquare(found[some], true * DRAWS).pvalue > LEVEL
    moved = true * torch.tensor([1.2, 0.6, 1, 1], dtype=torch.float64)
    assert scipy.stats.chisquare(found[some], moved * DRAWS).pvalue < LEVEL


@every_type
@pytest.mark.parametrize("by", ["probs", "logits"])
@pytest.mark.parametrize("form", FORMS[:3])
def test_many_impossible_categories(form: str, by: str, dtype: torch.dtype) -> None:
    """Of many categories of probability zero none is drawn."""
    law = torch.zeros(100_001 if form != "table" else 60_001, dtype=dtype)
    law[7] = 1
    draws = {"OneHotCategorical": 20, "table": 2000}.get(form, 20_000)
    assert bool((categories(form, by, law, draws, 12) == 7).all())


@every_type
def test_density_of_impossible_categories(dtype: torch.dtype) -> None:
    """The densities of all categories sum to one, and that of an impossible one is zero."""
    probs = torch.tensor(LAW, dtype=dtype, requires_grad=True)
    some = torch.tensor([True, True, False, True, True])
    for q in (
        distributions.OneHotCategorical(probs),
        distributions.Categorical(probs),
        distributions.Categorical(probs, weight=torch.arange(5.0, dtype=dtype)[:, None]),
        distributions.Categorical(probs).expand((1,)),
    ):
        found = q.log_prob(q.enumerate_support()).flatten()
        assert found.dtype == dtype
        assert bool(found[2].isneginf())
        off = 4 * torch.finfo(dtype).eps
        assert torch.allclose(found[some].exp().double(), probs.detach().double()[some], rtol=off)
        (slope,) = torch.autograd.grad(found[some].sum(), probs)
        assert bool(slope.isfinite().all())


@every_type
def test_gradient_for_probabilities(dtype: torch.dtype) -> None:
    """It is that of the operator for the logarithms, by the chain rule, and zero for a zero."""
    law = torch.tensor([LAW, LAW[::-1]], dtype=dtype)
    probs = law.clone().requires_grad_()
    z = distributions.OneHotCategorical(probs).rsample((200,), generator(13))
    g = torch.randn(z.shape, generator=generator(14), dtype=torch.float64).to(dtype)
    (found,) = torch.autograd.grad((z * g).sum(), probs)
    assert found.dtype == dtype
    at = z.detach().argmax(-1, keepdim=True)
    change = (g.double() - g.double().gather(-1, at)) / 2
    chosen = z.detach().double()
    # For p_k, k not drawn, half of g_k - g_i; for the drawn one minus the weighted sum over p_i.
    others = change * (1 - chosen)
    p = law.double()
    back = -(others * p).sum(-1, keepdim=True) / torch.where(p > 0, p, 1.0)
    total = (torch.where(chosen == 1, back, others) * (p > 0)).sum(0)
    # The parent divides by the sum, whose derivative takes the mean out.
    wanted = total - (total * p).sum(-1, keepdim=True)
    assert torch.allclose(found.double(), wanted, rtol=0, atol=500 * torch.finfo(dtype).eps)
    assert wanted.abs().max() > 1


def test_density_of_a_mixture_with_a_weight_of_zero() -> None:
    """A component that is never drawn adds nothing, however near it is."""
    probs = torch.tensor([1.0, 0.0], dtype=torch.bfloat16, requires_grad=True)
    loc, one = torch.tensor([0.0, 30.0]), torch.ones(2)
    for module in (distributions, torch.distributions):
        q = distributions.MixtureSameFamily(
            module.Categorical(probs), distributions.Normal(loc, one)
        )
        for mixture in (q, q.expand((1,))):
            found = mixture.log_prob(torch.tensor(30.0)).detach()
            assert float(found) == pytest.approx(-450 - math.log(2 * math.pi) / 2)


@every_type
def test_law_of_geometric_in_every_type(dtype: torch.dtype) -> None:
    """In the half types, whose uniform numbers are coarse, too; the mean to five errors.

    It would see the mean of numbers in bfloat16, larger by a fifth.
    """
    q = distributions.Geometric(torch.tensor(0.3, dtype=dtype))
    z = q.sample((200_000,), generator(15)).double()
    p = float(q.probs)
    assert float(z.mean()) == pytest.approx((1 - p) / p, abs=5 * (1 - p) ** 0.5 / p / 200_000**0.5)
    # The tail: a share of (1 - p)^40 of a million draws is 0.6; half types saw none, or hundreds.
    far = int((z >= 30).sum())
    wanted = 200_000 * (1 - p) ** 30
    assert abs(far - wanted) < 6 * wanted**0.5 + 6


@pytest.mark.parametrize("dtype", TYPES[2:], ids=str)
def test_law_of_small_concentrations(dtype: torch.dtype) -> None:
    """Beta and Dirichlet draws of small concentrations lie at the corners, as often as they should.

    PyTorch's are even shares, an eighth of the time.  Moments are taken to five standard errors.
    """
    row = torch.tensor([1e-3, 2e-3, 1e-3], dtype=dtype)
    z = distributions.Dirichlet(row).sample((DRAWS,), generator(16)).double()
    a = row.double()
    total = float(a.sum())
    mean = a / total
    error = (mean * (1 - mean) / DRAWS).sqrt()
    assert bool(((z.mean(0) - mean).abs() < 5 * error).all())
    spread = mean * (1 - mean) / (1 + total)
    assert bool(((z.var(0) - spread).abs() < 5 * error).all())
    # The odds of an entry of x or less: x^a / 2, that is 0.5 at 1, and 0.47 at 1e-30.
    z = distributions.Beta(row[0], row[0]).sample((DRAWS,), generator(17)).double()
    for x in (1e-30, 1e-10, 1e-3):
        wanted = scipy.stats.beta(float(a[0]), float(a[0])).cdf(x)
        share = float((z <= x).double().mean())
        assert abs(share - wanted) < 5 * (wanted * (1 - wanted) / DRAWS) ** 0.5
    assert float(((z > 0.4) & (z < 0.6)).double().mean()) < 0.01
    # A row beside it that is not small is drawn as ever.
    both = torch.tensor([[1e-3] * 3, [0.4, 1.0, 3.0]], dtype=dtype)
    mixed = distributions.Dirichlet(both).sample((DRAWS,), generator(3)).double()
    law = scipy.stats.beta(0.4, 4.0)
    assert scipy.stats.kstest(mixed[:, 1, 0].numpy(), law.cdf).pvalue > LEVEL


@pytest.mark.parametrize("rate", [1e11, 1e13, 1e15, 1e17, 1e20, 1e24])
def test_law_of_huge_counts(rate: float) -> None:
    """Poisson and binomial counts of all the digits of a double are normal, of their variance."""
    one = torch.ones((), dtype=torch.float64)
    cases = [(distributions.Poisson(rate * one), rate, rate)]
    for p in (0.003, 0.5, 0.997):
        n = rate * one
        cases.append((distributions.Binomial(n, p * one), rate * p, rate * p * (1 - p)))
    for q, mean, variance in cases:
        z = q.sample((DRAWS,), generator(18))
        assert torch.equal(z, z.round())
        scaled = (z - mean) / variance**0.5
        assert scipy.stats.kstest(scaled.numpy(), "norm").pvalue > LEVEL
        assert scipy.stats.kstest((1.2 * scaled).numpy(), "norm").pvalue < LEVEL


@pytest.mark.parametrize("count", [1e13, 1e15, 1e18, 1e30])
def test_law_of_few_among_many(count: float) -> None:
    """A binomial of many trials and a mean of three is a Poisson law; so are the failures."""
    n = torch.tensor(count, dtype=torch.float64)
    z = distributions.Binomial(n, 3 / n).sample((DRAWS,), generator(19))
    assert chi_square("Poisson", {"rate": 3.0}, z) > LEVEL
    assert chi_square("Poisson", {"rate": 3.6}, z) < LEVEL
    if count < 1e15:
        z = n - distributions.Binomial(n, 1 - 3 / n).sample((DRAWS,), generator(20))
        assert chi_square("Poisson", {"rate": float(n * (1 - (1 - 3 / n)))}, z) > LEVEL


@every_type
def test_the_certain_and_the_impossible(dtype: torch.dtype) -> None:
    """Probabilities of zero and one, as such or as logits, leave nothing to chance."""
    zero, one = torch.tensor(0.0, dtype=dtype), torch.tensor(1.0, dtype=dtype)
    far = torch.tensor(torch.inf, dtype=dtype)
    d, shape = distributions, (5000,)
    for given, sure in (({"probs": zero}, 0), ({"probs": one}, 1)):
        assert bool((d.Bernoulli(**given).sample(shape, generator(21)) == sure).all())
        z = d.Binomial(torch.tensor(50.0, dtype=dtype), **given).sample(shape, generator(21))
        assert bool((z == 50 * sure).all())
    for given, sure in (({"logits": -far}, 0), ({"logits": far}, 1)):
        q = d.Bernoulli(**given, validate_args=False)
        assert bool((q.sample(shape, generator(21)) == sure).all())
    assert not d.Geometric(one).sample(shape, generator(21)).any()
    many = torch.tensor(1000.0, dtype=dtype)
    assert not d.NegativeBinomial(many, probs=zero).sample(shape, generator(21)).any()
    q = d.NegativeBinomial(zero, logits=torch.tensor(90.0, dtype=dtype))
    assert not q.sample(shape, generator(21)).any()
    assert not d.Poisson(zero).sample(shape, generator(21)).any()
