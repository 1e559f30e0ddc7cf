"""HTTP clients of the scoring routes, in the same process: no server, no port."""

import asyncio

import httpx
from starlette.testclient import TestClient

from services.runtime.web import server
from services.scoring.rest import routes
from tests.unit.scoring.fakes import predictor

ROW = {"id": "r0", "at": "2013-07-01T16:05:00Z", "x": 1.2, "who": "abc"}


def application(tokens=(), not_ready=lambda: None, absent=dict, **predictors):
    """Return the application with these models, by default with one named m."""
    served = predictors or {"m": predictor()}
    return server.application(not_ready, routes.routes(lambda: served, not_ready, absent), tokens)


def client(tokens=(), not_ready=lambda: None, absent=dict, **predictors):
    return TestClient(application(tokens, not_ready, absent, **predictors), raise_server_exceptions=False)


def run_with_client(scenario, **predictors):
    """Run ``await scenario(post)`` in one event loop with the application."""

    async def run():
        transport = httpx.ASGITransport(app=application(**predictors))
        async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as http:
            return await scenario(lambda **body: http.post("/predict", json={"rows": [ROW]} | body))

    return asyncio.run(run())
