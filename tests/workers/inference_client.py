"""Calls a server as two other clients of the Open Inference Protocol do, in a separate environment.

``python inference_client.py HOST:PORT MODEL`` prints one JSON object. Triton's client encodes and decodes the
HTTP messages itself; MLServer's types are the protocol's OpenAPI description as strict classes. Both raise an
error for a message that does not conform.
"""

import json
import sys
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import tritonclient.http as triton
from mlserver import types


def main(address: str, model: str) -> None:
    print(json.dumps({"triton": as_triton(address, model), "mlserver": as_mlserver(address, model)}))


def as_triton(address: str, model: str) -> dict[str, Any]:
    """Call every route; read the outputs as arrays."""
    client = triton.InferenceServerClient(address)
    inputs = []
    for name, datatype, values in (
        ("id", "BYTES", np.array([b"r0", b"r1"], dtype=object)),
        ("at", "BYTES", np.array([b"2013-07-01T16:05:00Z"] * 2, dtype=object)),
        ("x", "FP64", np.array([[1.2], [0.2]])),
        ("who", "BYTES", np.array([b"abc", b"a"], dtype=object)),
    ):
        tensor = triton.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values, binary_data=False)
        inputs.append(tensor)
    wanted = [triton.InferRequestedOutput(name, binary_data=False) for name in ("score", "arm")]
    answer = client.infer(model, inputs, outputs=wanted, request_id="42")
    pinned = client.infer(model, inputs, model_version="1", outputs=wanted)
    return {
        "healthy": [client.is_server_live(), client.is_server_ready()],
        "ready": [client.is_model_ready(model), client.is_model_ready(model, "1")],
        "unknown_ready": client.is_model_ready("nobody"),
        "server": client.get_server_metadata()["name"],
        "versions": client.get_model_metadata(model)["versions"],
        "id": answer.get_response()["id"],
        "score": answer.as_numpy("score").tolist(),
        "arm": [str(value) for value in answer.as_numpy("arm").tolist()],
        "pinned": pinned.get_response()["model_version"],
    }


def as_mlserver(address: str, model: str) -> dict[str, Any]:
    """Build a request from the protocol's types, and read every response as one of them."""
    tensors = [
        ("id", "BYTES", ["r0"]),
        ("at", "BYTES", ["2013-07-01T16:05:00Z"]),
        ("x", "FP32", [1.0]),
        ("who", "BYTES", ["abc"]),
    ]
    inputs = [
        types.RequestInput(name=name, shape=[1, 1], datatype=datatype, data=data)
        for name, datatype, data in tensors
    ]
    request = types.InferenceRequest(id="7", inputs=inputs)
    answer = types.InferenceResponse.model_validate_json(
        ask(address, f"/v2/models/{model}/infer", request.model_dump_json(exclude_none=True))
    )
    server = types.MetadataServerResponse.model_validate_json(ask(address, "/v2"))
    described = types.MetadataModelResponse.model_validate_json(ask(address, f"/v2/models/{model}"))
    refused = ask(address, f"/v2/models/{model}/infer", '{"inputs": []}')
    return {
        "id": answer.id,
        "outputs": {one.name: [one.datatype, one.shape, list(one.data)] for one in answer.outputs},
        "described": [tensor.name for tensor in described.outputs or []],
        "server": server.name,
        "error": types.InferenceErrorResponse.model_validate_json(refused).error,
    }


def ask(address: str, path: str, body: str | None = None) -> bytes:
    request = urllib.request.Request(
        f"http://{address}{path}", body.encode() if body else None, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        return bytes(error.read())


if __name__ == "__main__":
    main(*sys.argv[1:])
