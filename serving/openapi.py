"""What the REST door takes and gives, as OpenAPI 3.1: for clients that are generated, and for the fuzz tests."""

from typing import Any

import fairlead
from serving.openai.wish import KNOWN as COMPLETION_FIELDS
from serving.questions import MAX_PROMPTS, MAX_TEXTS
from serving.questions import PARAMETERS as PARAMETER_NAMES

Schema = dict[str, Any]

MODEL = {"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
PREDICTION = {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
FAILURES = {
    "400": "The request is wrong; the sentence names the field.",
    "404": "There is no such model or version.",
    "413": "The body is over the limit.",
    "415": "The body is compressed.",
    "429": "There is no room; try again after `Retry-After` seconds.",
    "503": "It is not ready; try again after `Retry-After` seconds.",
    "504": "The answer would come later than the caller waits.",
}
PARAMETERS: Schema = {
    "type": ["object", "null"],
    "properties": {name: {"type": "boolean"} for name in PARAMETER_NAMES},
    "additionalProperties": False,
}
TOKENS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
ITEMS: Schema = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_TEXTS,
    "anyOf": [{"items": {"type": "string"}}, {"items": TOKENS}],
}


def document(models: list[str]) -> Schema:
    """The description of a server of these models."""
    model = MODEL | {"schema": {"type": "string", "enum": models}} if models else MODEL
    infer = {"post": _operation("Answer texts (V2)", [model], _ref("InferRequest"), _ref("InferResponse"))}
    predict = {"post": _operation("Answer texts (V1)", [model], _ref("PredictRequest"), _ref("PredictResponse"))}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Fairlead model server", "version": fairlead.__version__},
        "paths": {
            "/v1/models/{model}:predict": predict,
            "/v2/models/{model}/infer": infer,
            "/v2/models/{model}/versions/{version}/infer": {
                "post": _operation(
                    "Answer texts by a version (V2)", [model, VERSION], _ref("InferRequest"), _ref("InferResponse")
                )
            },
            "/v1/completions": {"post": _openai("Continue texts, as OpenAI has it", "Completion")},
            "/v1/embeddings": {"post": _openai("Embed texts, as OpenAI has it", "Embedding")},
            "/v1/models": {"get": _operation("The models, as V1 and as OpenAI have them", [])},
            "/v2/predictions/{id}": {"get": _operation("What the log has of a prediction", [PREDICTION])},
            "/v2/feedback": {"post": _operation("The true label of a prediction", [], _ref("Feedback"))},
            "/v2/models/{model}": {"get": _operation("Inputs, outputs and versions", [model])},
            "/v2/models/{model}/ready": {"get": _operation("Whether it answers", [model])},
            "/v2/health/live": {"get": _operation("Whether the server lives", [])},
            "/v2/health/ready": {"get": _operation("Whether requests are welcome", [])},
            "/v2": {"get": _operation("The server's name, version and extensions", [])},
        },
        "components": {"schemas": _schemas()},
    }


def _operation(
    summary: str,
    parameters: list[Schema],
    body: Schema | None = None,
    gives: Schema | None = None,
    failure: str = "Failure",
) -> Schema:
    answer = {"description": "The answer.", "content": _json(gives or {"type": "object"})}
    failures = {status: {"description": text, "content": _json(_ref(failure))} for status, text in FAILURES.items()}
    operation: Schema = {"summary": summary, "parameters": parameters, "responses": {"200": answer, **failures}}
    if body:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    return operation


def _openai(summary: str, name: str) -> Schema:
    return _operation(summary, [], _ref(f"{name}Request"), failure="OpenAIFailure")


def _openai_schemas() -> dict[str, Schema]:
    text, flag = {"type": "string", "minLength": 1}, {"type": ["boolean", "null"]}
    types: dict[str, Schema] = {
        "model": {"type": "string"},
        "prompt": {"anyOf": [text, {"type": "array", "items": text, "minItems": 1, "maxItems": MAX_PROMPTS}]},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": 100_000},
        "temperature": {"type": "number", "minimum": 0, "maximum": 100},
        "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "top_k": {"type": "integer", "minimum": 1},
        "seed": {"type": "integer", "minimum": 0, "maximum": 2**32 - 1},
        "stop": {"anyOf": [text, {"type": "array", "items": text, "maxItems": 16}]},
        "n": {"type": "integer", "minimum": 1, "maximum": MAX_PROMPTS},
        "stream": flag,
        "echo": flag,
        "stream_options": _object({"include_usage": flag}),
    }
    completion = {name: types.get(name, {}) for name in COMPLETION_FIELDS}
    inputs = {"anyOf": [{"type": "string"}, ITEMS, TOKENS]}
    form = {"enum": ["float", "base64"]}
    embedding = {"model": {"type": "string"}, "input": inputs, "encoding_format": form}
    nullable = {"type": ["string", "null"]}
    message = {"message": {"type": "string"}, "type": {"type": "string"}, "param": nullable, "code": nullable}
    return {
        "CompletionRequest": _object(completion, "model", "prompt"),
        "EmbeddingRequest": _object(embedding, "model", "input"),
        "OpenAIFailure": _object({"error": _object(message, *message)}, "error"),
    }


def _feedback() -> Schema:
    label = {"anyOf": [{"type": "string"}, {"type": "number"}, {"type": "array", "items": {"type": "string"}}]}
    index = {"type": ["integer", "null"], "minimum": 0}
    return _object({"prediction_id": {"type": "string"}, "label": label, "index": index}, "prediction_id", "label")


def _schemas() -> dict[str, Schema]:
    stamp = {name: {"type": "string"} for name in ("prediction_id", "model_version", "digest", "variant")}
    return {
        "Failure": _object({"error": {"type": "string"}}, "error"),
        "Feedback": _feedback(),
        **_openai_schemas(),
        "PredictRequest": _object({"instances": ITEMS, "parameters": PARAMETERS}, "instances"),
        "PredictResponse": _object(
            {"predictions": {"type": "array", "items": {"type": "object"}}, "model_name": {"type": "string"}, **stamp},
            "predictions",
            *stamp,
        ),
        "InferRequest": _object(
            {
                "id": {"type": ["string", "null"]},
                "parameters": PARAMETERS,
                "inputs": {"type": "array", "minItems": 1, "maxItems": 2, "items": _ref("Input")},
                "outputs": {"type": ["array", "null"], "items": _ref("RequestedOutput")},
            },
            "inputs",
        ),
        "Input": _input(),
        "RequestedOutput": _object({"name": {"type": "string"}, "parameters": {"type": ["object", "null"]}}, "name"),
        "InferResponse": _object(
            {
                "id": {"type": "string"},
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "outputs": {"type": "array", "items": _object({"name": {"type": "string"}}, "name")},
                "parameters": _object(stamp, *stamp),
            },
            "model_name",
            "model_version",
            "outputs",
        ),
    }


def _input() -> Schema:
    return _object(
        {
            "name": {"enum": ["text", "input_ids", "attention_mask"]},
            "datatype": {"enum": ["BYTES", "INT64", "INT32"]},
            "shape": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 0}},
            "data": {"type": "array", "minItems": 1},
            "parameters": {"type": ["object", "null"]},
        },
        "name",
        "datatype",
        "shape",
    )


def _object(properties: Schema, *required: str) -> Schema:
    return {"type": "object", "properties": properties, "required": list(required)}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}
