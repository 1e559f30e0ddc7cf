"""``POST /predict``: rows in, predictions out.

``{"model": "arrival_delay", "rows": [{...}, ...]}``, each row a request as model.yaml declares it (``model``
may be left out where only one is served), is answered by ``{"model": ..., "predictions": [{"prediction_id",
"version", "arm", "score", "prediction"}, ...]}``, for multiclass models with ``probabilities``. With
``"explain": true`` each has an ``explanation``: ``base_value``, the ``contributions`` of the features and the
``method`` by which they were found.
"""

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.scoring.explanations import explainer
from services.scoring.online_predictor import Answered
from services.scoring.rest import request_handling
from services.scoring.rest.request_handling import Served


class _Body(msgspec.Struct):
    rows: list[msgspec.Raw]
    model: str | msgspec.UnsetType = msgspec.UNSET
    explain: bool = False


def routes(served: Served) -> list[Route]:
    """Make the route; what is served may change at any time."""

    async def predict(request: Request) -> Response:
        began = time.perf_counter()
        body = await request_handling.read(request, _Body)
        endpoint = request_handling.choose(served(), body.model, request)
        request_handling.check_count("rows", len(body.rows), endpoint.limits)
        request_handling.check_explained(len(body.rows), explained=body.explain)
        answered = await endpoint.answer(request_handling.decode(endpoint.scorer.decoder, "rows", body.rows))
        predictions = _predictions(answered)
        endpoint.observe_seconds(time.perf_counter() - began)
        if body.explain:
            names = endpoint.scorer.feature_names
            for prediction, one in zip(predictions, await endpoint.explain(answered), strict=True):
                prediction["explanation"] = explainer.named(one, names)
        return request_handling.as_json({"model": endpoint.name, "predictions": predictions})

    return [Route("/predict", request_handling.answering(predict), methods=["POST"])]


def _predictions(answered: Answered) -> list[dict[str, Any]]:
    answers = answered.answers
    columns = (answered.ids, answered.arms, answers.scores, answers.predictions, answers.probabilities)
    return [
        {
            "prediction_id": identity,
            "version": arm.version,
            "arm": arm.name,
            "score": score,
            "prediction": prediction,
            **({} if probabilities is msgspec.UNSET else {"probabilities": probabilities}),
        }
        for identity, arm, score, prediction, probabilities in zip(*columns, strict=True)
    ]
