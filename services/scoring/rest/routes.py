"""REST: thin adapters to the same inference path that the Kafka agent takes.

One module for each: `predict`, `feedback`, `inference_protocol` (Open Inference Protocol 2), `openapi`. What
they share, and the meaning of each status, is in `asking`; a model's limits, batches and log in `endpoint`.
"""

from starlette.routing import Route

from services.runtime.web.server import NotReady
from services.scoring.rest import feedback, open_inference, openapi, predict
from services.scoring.rest.request_handling import Served


def routes(served: Served, not_ready: NotReady = lambda: None) -> list[Route]:
    """Make the routes of the scoring process; what is served may change at any time."""
    return [
        *predict.routes(served),
        *feedback.routes(served),
        *open_inference.routes(served, not_ready),
        *openapi.routes(served),
    ]
