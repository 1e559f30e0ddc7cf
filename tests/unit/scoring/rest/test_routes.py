"""All HTTP paths of scoring, which clients know."""

from services.scoring.rest import routes


def test_the_paths_and_methods_are_those_that_clients_know():
    found = {(route.path, tuple(sorted(route.methods or ()))) for route in routes.routes(dict)}
    get, post = ("GET", "HEAD"), ("POST",)
    version = "/v2/models/{name}/versions/{version}"
    assert found == {
        ("/predict", post),
        ("/feedback", post),
        ("/openapi.json", get),
        ("/v2", get),
        ("/v2/health/live", get),
        ("/v2/health/ready", get),
        ("/v2/models/{name}", get),
        ("/v2/models/{name}/ready", get),
        ("/v2/models/{name}/infer", post),
        (version, get),
        (f"{version}/ready", get),
        (f"{version}/infer", post),
    }
