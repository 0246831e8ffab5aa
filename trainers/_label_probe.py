"""The linear probe of a multi-label task: a logistic regression for each label."""

from functools import cached_property

import numpy as np
from sklearn.linear_model import LogisticRegression

from dassl.metrics.multilabel import average_precisions, mean_average_precision
from trainers._logistic import GRADIENT
from trainers._probe import GRID, MAX_ITER, Fit, TaskProbe


class LabelProbe(TaskProbe):
    """Logistic regressions of one multi-label task: its labels are matrices (n, C_t) bool."""

    @cached_property
    def seen(self) -> np.ndarray:
        """Classes that a training image has, ascending."""
        return np.flatnonzero(self._y.any(axis=0))

    @property
    def fits(self) -> bool:
        """Whether some images have a class and others have it not."""
        return bool((self._y.any(axis=0) & ~self._y.all(axis=0)).any())

    @property
    def searches(self) -> bool:
        """Whether C makes a difference and there are images to choose it on."""
        return self.fits and bool(self._val_y.any())

    @property
    def chains(self) -> list[list[float]]:
        """The values of C of the grid, each by itself."""
        return [[c] for c in GRID]

    def score(self, c: float) -> float:
        """mAP on the validation images, in %."""
        fit = self.fit(c)
        value = mean_average_precision(average_precisions(self._val_x @ fit.weight.T + fit.bias, self._val_y))
        assert value is not None, "searches is False without a label on validation images"
        return value

    def _regress(self, c: float) -> Fit:
        """One regression for each class. A class that no image has is never predicted; one that all have always is."""
        classes, count = len(self.task.classnames), len(self._y)
        weight, bias, converged = np.zeros((classes, self._x.shape[1])), np.full(classes, -np.inf), True
        for each in self.seen:
            own = self._y[:, each]
            if own.all():
                bias[each] = np.log(2 * count + 1)  # the log-odds with half an image added on both sides
                continue
            model = LogisticRegression(C=c, solver="lbfgs", max_iter=MAX_ITER, tol=GRADIENT / count).fit(self._x, own)
            weight[each], bias[each] = model.coef_[0], model.intercept_[0]
            converged &= bool(model.n_iter_.max() < MAX_ITER)
        return Fit(weight, bias, converged)
