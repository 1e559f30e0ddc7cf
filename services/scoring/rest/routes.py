"""The REST routes: thin adapters to the same inference path that the Kafka agent uses.

One module for each: `predict`, `feedback`, `open_inference` (Open Inference Protocol 2), `openapi`. What they
share, and the meaning of each status, is in `http_requests`; a model's limits, batches and log are in
`services.scoring.online_predictor`.
"""

from starlette.routing import Route

from services.runtime.web.server import NotReady
from services.scoring.rest import feedback, open_inference, openapi, predict
from services.scoring.rest.http_requests import Absent, Predictors, ServedModels


def routes(predictors: Predictors, not_ready: NotReady = lambda: None, absent: Absent = dict) -> list[Route]:
    """Return the routes of the scoring process.

    Args:
        predictors: The models that are served.
        not_ready: The readiness of the process.
        absent: The declared models that are not served now.
    """
    models = ServedModels(predictors, absent)
    return [
        *predict.routes(models),
        *feedback.routes(models),
        *open_inference.routes(models, not_ready),
        *openapi.routes(models),
    ]
