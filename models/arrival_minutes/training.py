"""The learner of arrival_minutes: a linear model that takes one step for each flight that has arrived.

River's classes only, of those that `services.model_registry.river_format` can write down.
"""

from typing import Any

from river import compose, linear_model, optim, preprocessing

STEP = 0.3
"""Of AdaGrad: a third or thrice of it changes the error by less than a hundredth."""


def learner(categorical: list[str], numeric: list[str]) -> Any:
    """Return a pipeline that has learned nothing, from a row of these features to minutes of delay.

    A missing number counts as its mean, a missing or new category as none.
    """
    numbers = compose.Discard(*categorical) | preprocessing.StandardScaler()
    categories = compose.Discard(*numeric) | preprocessing.OneHotEncoder(drop_zeros=True)
    # The absolute error asks for the median: with squares, one flight that is a day late undoes a month.
    # AdaGrad gives a rare airport larger steps than the hour of the day.
    steps = linear_model.LinearRegression(
        optimizer=optim.AdaGrad(STEP), loss=optim.losses.Absolute(), intercept_lr=0.05
    )
    return compose.TransformerUnion(numbers, categories) | steps
