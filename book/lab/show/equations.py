"""What each estimator computes, as a formula of the table in ``book/estimators.md``.

The keys are functions of :mod:`ils.estimators`, the letters those that the page explains.  No
number depends on this module.
"""

from __future__ import annotations

__all__ = ["EQUATIONS"]

EQUATIONS = {
    "straight_through": r"$J_\tau\, g$",
    "straight_through_gumbel": (
        r"$\tfrac1\tau\, y \circ (g - \langle y, g\rangle)$, $z$ the hard $y_\tau$"
    ),
    "decoupled_straight_through_gumbel": r"the same, $z$ drawn at a temperature of its own",
    "gumbel_rao": r"the same, averaged over the noise given $z$",
    "gapped_straight_through": r"$J_\tau(\theta + m_z)\, g$, a shift $m_z$ for the noise",
    "reinmax": r"$2 J\!\left(\tfrac{\pi_\tau + z}{2}\right) g - \tfrac12 J(\pi)\, g$",
    "zgr": r"$\tfrac12 [J g + (z - \pi)\langle g, z - \pi\rangle]$",
    "darn": r"$(z - \pi)\langle g, z - \pi\rangle$",
    "reinmax_control_variate": (
        r"ReinMax of $g_s - h_s$, and its mean over draws of $h_s$, "
        r"the mean of the other draws' $g$"
    ),
    "reinmax_rao": (
        r"$\tfrac2\tau\, \mathbb E[J(y) \mid z]\, g - \tfrac12 J(\pi)\, g$, "
        r"$y$ relaxed at $\tfrac{\pi + z}2$"
    ),
    "mve": r"$J R_\tau A_\tau^{-1} h_\tau(g, z)$, a system of $K$ equations",
    "gumbel_softmax": r"$\tfrac1\tau\, y \circ (g(y) - \langle y, g(y)\rangle)$",
    "intermediate_loss_sampling": r"$\pi - \pi_D$, or $z - \pi_D$ (centred)",
    "spigot": r"$e - P(e - \gamma g(e))$, $e$ the likeliest",
    "spigot_ce": r"$\pi - P(\pi - \gamma g(\pi))$",
    "spigot_eg": r"$\pi - \operatorname{softmax}(\theta - \gamma g(\pi))$",
    "implicit_mle": (
        r"$\tfrac1\lambda [a(\theta) - a(\theta - \lambda g)]$, "
        r"$a(x) = \operatorname{onehot}\arg\max(x + G)$"
    ),
    "adaptive_implicit_mle": (
        r"$\tfrac1{2\lambda} [a(\theta + \lambda g) - a(\theta - \lambda g)]$, $\lambda$ learnt"
    ),
    "blackbox": r"as I-MLE without noise",
    "identity": r"$g(e) - \operatorname{mean} g(e)$",
    "score_function": r"$(z - \pi)(L - b)$",
    "score_function_running": r"the same, $b$ the mean of past losses",
    "leave_one_out": r"the same, $b$ the mean of the other draws",
    "double_control_variate": r"and a Taylor term from the other draws",
    "muprop": r"$(z - \pi)[L - \text{Taylor at } \pi] + J g(\pi)$",
    "rebar": r"$(z - \pi)[L - c L(y')] + c\,\partial_\theta[L(y) - L(y')]$",
    "relax": r"the same with a learnt $c(y)$ for $c L(y)$",
    "arm": r"$[L(b) - L(b')](u - \tfrac12)$, antithetic",
    "disarm": r"$\tfrac12 [L(b) - L(b')](b - b')\,\sigma(\lvert\alpha\rvert)$",
    "disarm_categorical": r"the same, stick by stick",
    "unordered_set": r"$\sum_s p_s R(S, s)(z_s - \pi)(L_s - B_s)$, distinct draws",
    "sum_and_sample": r"all but one state summed, one for the rest",
}
