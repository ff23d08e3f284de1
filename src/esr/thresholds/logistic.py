"""Threshold finding by an adaptive Bayesian logistic dose-response (the default method)."""

from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from esr.thresholds.base import (
    ESTIMATE_COLUMNS,
    Record,
    Status,
    check_latents,
    check_settings,
    record_scores,
)
from esr.thresholds.curves import CurveGrid, Prior, normalise, weighted_quantiles

CHUNK = 256
"""Latents worked on at a time; bounds the memory, changes no result."""


class Logistic:
    def __init__(
        self,
        *,
        target,
        lower,
        upper,
        prior_mean,
        prior_sd,
        n_latents,
        broad=0.2,
        widths=(0.02, 1.0),
        ceilings=(0.99,),
        n_widths=12,
        n_thresholds=256,
        n_boosts=96,
        power=2.0,
        weight=1.0,
        estimator="wmedian",
        scale="t",
    ):
        check_settings(target, lower, upper, prior_mean, prior_sd, n_latents)
        self.prior = Prior(prior_mean, prior_sd, broad=broad, widths=widths, ceilings=ceilings)
        self.grid = CurveGrid(target / 100, lower, upper, self.prior, n_thresholds, n_widths)
        g = self.grid
        self.lp = np.repeat(g.log_prior[None], n_latents, axis=0)
        t = g.thresholds[~(g.below | g.above)]
        self.boosts = t[np.linspace(0, t.size - 1, n_boosts).round().astype(int)]
        m = g.mean(self.boosts).T
        a = (1 / g.width) ** power
        a = a / a.max()
        tt = (g.threshold - g.thresholds[0]) / (g.thresholds[-1] - g.thresholds[0])
        if scale == "rank":
            tt = np.repeat(np.linspace(0, 1, g.thresholds.size), len(g.shapes))
        if scale == "gauss":
            from scipy.stats import norm

            tt = norm.cdf(g.threshold, prior_mean, 2 * prior_sd)
        f = np.stack([a, a * tt, a * tt * tt], axis=1)
        self.F = np.round(f * 2**26) / 2**26
        self.T = np.concatenate([np.round(m * f[:, [k]] * 2**26) / 2**26 for k in range(3)], axis=1)
        self.weight, self.estimator, self.power = weight, estimator, power

    def propose(self, which):
        out = []
        for s in range(0, len(which), CHUNK):
            p = normalise(self.lp[which[s : s + CHUNK]])
            p = np.round(p * 2**26) / 2**26
            yes = (p @ self.T).reshape(len(p), 3, -1)
            no = (p @ self.F)[:, :, None] - yes
            risk = sum(
                c - b * b / np.maximum(a, 1e-30)
                for a, b, c in (yes.transpose(1, 0, 2), no.transpose(1, 0, 2))
            )
            out.append(self.boosts[risk.argmin(axis=1)])
        return np.concatenate(out)

    def observe(self, which, boosts, scores):
        s = scores / 100
        n = np.full(len(which), float(s.shape[1]))
        for i in range(0, len(which), CHUNK):
            j = slice(i, i + CHUNK)
            self.lp[which[j]] += self.weight * self.grid.log_likelihood(
                boosts[j], s[j].sum(1), n[j]
            )

    def estimate(self):
        g = self.grid
        rows = []
        for i in range(len(self.lp)):
            p = normalise(self.lp[i : i + 1])

            def q(pw, lv):
                mm = g.marginal(p * (1 / g.width) ** pw)[0]
                c = np.concatenate([[0], np.cumsum(mm)]) / mm.sum()
                return np.interp(lv, c, g.edges)

            p = p
            lo, med, hi = q(0, [0.05, 0.5, 0.95])
            wm = q(1, [0.5])[0]
            A = p[0] / g.width**2
            mean2 = (A * g.threshold).sum() / A.sum()
            mean0 = (p[0] * g.threshold).sum()
            rows.append(dict(low=lo, high=hi, median=med, wmedian=wm, mean2=mean2, mean0=mean0))
        return pd.DataFrame(rows)
