"""The learner of arrival_minutes: a linear model with one gradient step per flight that has arrived.

It uses classes of river only, all of which `services.model_registry.river_format` can write.
"""

from typing import Any

from river import compose, linear_model, optim, preprocessing

STEP = 0.3
"""Step of AdaGrad; a third or three times of it changes the error by less than 1 %."""


def learner(categorical: list[str], numeric: list[str]) -> Any:
    """Return a pipeline that has learned nothing, from a row of these features to minutes of delay.

    A missing number counts as its mean, a missing or new category as no category.
    """
    numbers = compose.Discard(*categorical) | preprocessing.StandardScaler()
    categories = compose.Discard(*numeric) | preprocessing.OneHotEncoder(drop_zeros=True)
    # The absolute error estimates the median: with squared error, one flight that is a day late undoes a
    # month. AdaGrad gives a rare airport larger steps than the hour of the day.
    steps = linear_model.LinearRegression(
        optimizer=optim.AdaGrad(STEP), loss=optim.losses.Absolute(), intercept_lr=0.05
    )
    return compose.TransformerUnion(numbers, categories) | steps
