"""The paper's threshold search: probabilistic bisection with a Beta model of one score."""

import numpy as np
from jaxtyping import Float
from scipy.stats import beta, norm


def sign_and_confidence(
    score: Float[np.ndarray, " m"], target: float
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    score = np.asarray(score, dtype=float)
    above = score >= target
    cdf = beta.cdf(target, 0.5 + 5 * score, 0.5 + 5 * (1 - score))
    p = np.where(above, 1 - cdf, cdf)
    flip = p < 0.5
    return np.where(above ^ flip, 1, -1), np.where(flip, 1 - p, p)


class Bisection:
    def __init__(self, *, target, lower, upper, prior_mean, prior_sd, n_latents):
        self.target = target / 100
        self.grid = np.linspace(lower, upper, 10_000)
        d = norm.pdf(self.grid, prior_mean, prior_sd)
        self.d = np.repeat((d / d.sum())[None], n_latents, axis=0)

    def propose(self, which):
        return np.array([self.grid[np.searchsorted(np.cumsum(self.d[i]), 0.5)] for i in which])

    def observe(self, which, boosts, scores):
        y, p = sign_and_confidence(scores.mean(1) / 100, self.target)
        for k, i in enumerate(which):
            at = np.searchsorted(self.grid, boosts[k])
            hi, lo = (p[k], 1 - p[k]) if y[k] > 0 else (1 - p[k], p[k])
            d = self.d[i]
            d[:at] *= lo
            d[at] *= np.sqrt(hi * lo)
            d[at + 1 :] *= hi
            d /= d.sum()

    def estimate(self):
        import pandas as pd

        c = np.cumsum(self.d, axis=1)
        q = lambda l: np.array([self.grid[min(np.searchsorted(x, l), 9999)] for x in c])
        return pd.DataFrame(dict(median=np.round(q(0.5), 2), low=q(0.05), high=q(0.95)))
