"""``POST /predict``: rows in, predictions out.

The body is ``{"model": "arrival_delay", "rows": [{...}, ...]}``; each row is a request as model.yaml declares
it, and ``model`` may be left out if only one is served. The response is ``{"model": ..., "predictions":
[{"prediction_id", "version", "arm", "score", "prediction"}, ...]}``, for multiclass models with
``probabilities``. With ``"explain": true`` each prediction has an ``explanation``: ``base_value``, the
``contributions`` of the features, and the ``method`` that computed them.
"""

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from services.scoring.explanations import explainer
from services.scoring.online_predictor import OnlinePredictions
from services.scoring.rest import http_requests
from services.scoring.rest.http_requests import ServedModels
from streams.json_decoder import JsonDecoder


class _PredictBody(msgspec.Struct):
    rows: list[msgspec.Raw]
    model: str | msgspec.UnsetType = msgspec.UNSET
    explain: bool = False


_BODIES: JsonDecoder[_PredictBody] = JsonDecoder(_PredictBody)


def routes(models: ServedModels) -> list[Route]:
    """Return the route."""

    async def predict(request: Request) -> Response:
        start = time.perf_counter()
        body = await http_requests.read(request, _BODIES)
        predictor = http_requests.choose(models, body.model, request)
        http_requests.check_count("rows", len(body.rows), predictor.limits)
        http_requests.check_explained(len(body.rows), explained=body.explain)
        events = http_requests.decode(predictor.pipeline.decoder, "rows", body.rows)
        predictions = await predictor.predict(events)
        rows = _rows(predictions)
        predictor.observe_seconds(time.perf_counter() - start)
        if body.explain:
            names = predictor.pipeline.features.names
            for row, explanation in zip(rows, await predictor.explain(predictions), strict=True):
                row["explanation"] = explainer.to_json(explanation, names)
        document = {"model": predictor.name, "predictions": rows}
        return http_requests.answer(request, predictor, predictions, document)

    return [Route("/predict", http_requests.handle_errors(predict), methods=["POST"])]


def _rows(predictions: OnlinePredictions) -> list[dict[str, Any]]:
    values = predictions.columns
    columns = (predictions.ids, predictions.arms, values.scores, values.predictions, values.probabilities)
    return [
        {
            "prediction_id": prediction_id,
            "version": arm.version,
            "arm": arm.name,
            "score": score,
            "prediction": prediction,
            **({} if probabilities is msgspec.UNSET else {"probabilities": probabilities}),
        }
        for prediction_id, arm, score, prediction, probabilities in zip(*columns, strict=True)
    ]
