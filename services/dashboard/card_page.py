"""The stored card of a version as a page of the dashboard."""

import asyncio

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.model_registry import model_card_page, model_card_store
from services.model_registry.mlflow_client import RegistryError
from services.runtime.settings import Settings
from streams.outages import is_outage

PATH = "/models/{model}/versions/{version:int}/card"
READS_MAX = 2
"""Maximum cards read at the same time; each is a download from MLflow."""


def route(settings: Settings) -> Route:
    """Return the route of the cards; nothing connects before the first request."""
    reading = asyncio.Semaphore(READS_MAX)

    async def card(request: Request) -> Response:
        model, version = request.path_params["model"], request.path_params["version"]
        try:
            async with reading:
                found = await asyncio.to_thread(model_card_store.stored, settings, model, version)
        except RegistryError as error:
            return JSONResponse({"error": str(error)}, status_code=404)
        except Exception as error:
            if not is_outage(error):
                raise
            return JSONResponse({"error": f"MLflow cannot be read: {error}"}, status_code=503)
        if found is None:
            command = f"driftline models card {model} {version}"
            text = f"no card of {model} version {version} is stored: run '{command}'"
            return JSONResponse({"error": text}, status_code=404)
        if request.query_params.get("format") == "markdown":
            return PlainTextResponse(model_card_page.as_markdown(found), media_type="text/markdown")
        headers = {"content-security-policy": model_card_page.CONTENT_SECURITY_POLICY}
        return HTMLResponse(model_card_page.as_html(found), headers=headers)

    return Route(PATH, card)
