"""The program `schemathesis`, which sends what an OpenAPI document allows, and what it does not."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders.marks import CLIENTS
from builders.services import TOKEN

pytest.importorskip("schemathesis", exc_type=ImportError)
pytestmark = CLIENTS


def run(document: str, folder: Path, *options: str) -> None:
    """Fails with what the program found. The same requests each time."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", document, "--no-color", "--workers", "1"),
            *("--seed", "1", "--generation-database", "none", "--max-examples", "40"),
            *("--phases", "examples,coverage,fuzzing", "--warnings", "off", *options),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "No issues found" in done.stdout


# A `where` may name fields that there are not, and texts may be keys that cannot be: no schema can say so.
NOT_ALL = ("--exclude-checks", "positive_data_acceptance")


def test_our_document(exact_url: str, tmp_path: Path) -> None:
    """All checks pass on the routes of models: what the document allows is answered, what it does not allow is refused,
    and each answer is as it says."""
    run(f"{exact_url}/openapi.json", tmp_path, "--exclude-path-regex", "^/index")


def test_routes_of_the_index(exact_url: str, tmp_path: Path) -> None:
    """With the token, so that documents are added and deleted; some of what the document allows is refused."""
    token = f"Authorization: Bearer {TOKEN}"
    run(f"{exact_url}/openapi.json", tmp_path, "--include-path-regex", "^/index", "--header", token, *NOT_ALL)


def test_the_document_of_text_embeddings_inference(exact_url: str, tmp_path: Path) -> None:
    """No fault of the server, and no status, type or answer that the published document does not have. What it allows
    and we refuse (token ids, other dimensions) is refused as it says."""
    (tmp_path / "tei.json").write_text(json.dumps(TEI))
    run("tei.json", tmp_path, "--url", exact_url, *NOT_ALL)


def body(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def route(takes: str, gives: str) -> dict[str, Any]:
    errors = {
        status: {"description": "refused", **body(ref("Error"))} for status in ("400", "413", "422", "424", "429")
    }
    answer = {"description": "answered", **body(ref(gives))}
    return {"post": {"requestBody": {**body(ref(takes)), "required": True}, "responses": {"200": answer, **errors}}}


# The facts that the document of version 1.9.3 states of two routes.
FLAG = {"type": "boolean"}
TEXT = {"type": "string"}
NUMBER = {"type": "number", "format": "float"}
CUT = {"truncate": {**FLAG, "nullable": True}, "truncation_direction": {**TEXT, "enum": ["Left", "Right"]}}
INPUT = {"oneOf": [TEXT, {"type": "array", "items": {"type": "integer", "format": "int32", "minimum": 0}}]}
TEI = {
    "openapi": "3.0.3",
    "info": {"title": "text-embeddings-inference, two routes", "version": "1.9.3"},
    "paths": {"/embed": route("Embed", "Vectors"), "/rerank": route("Rerank", "Ranks")},
    "components": {
        "schemas": {
            "Embed": {
                "type": "object",
                "required": ["inputs"],
                "properties": {
                    "inputs": {"oneOf": [INPUT, {"type": "array", "items": INPUT}]},
                    "normalize": FLAG,
                    "prompt_name": {**TEXT, "nullable": True},
                    "dimensions": {"type": "integer", "minimum": 0, "nullable": True},
                    **CUT,
                },
            },
            "Vectors": {"type": "array", "items": {"type": "array", "items": NUMBER}},
            "Rerank": {
                "type": "object",
                "required": ["query", "texts"],
                "properties": {
                    "query": TEXT,
                    "texts": {"type": "array", "items": TEXT},
                    "raw_scores": FLAG,
                    "return_text": FLAG,
                    **CUT,
                },
            },
            "Ranks": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["index", "score"],
                    "properties": {
                        "index": {"type": "integer", "minimum": 0},
                        "score": NUMBER,
                        "text": {**TEXT, "nullable": True},
                    },
                },
            },
            "Error": {
                "type": "object",
                "required": ["error", "error_type"],
                "properties": {
                    "error": TEXT,
                    "error_type": {
                        **TEXT,
                        "enum": ["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"],
                    },
                },
            },
        }
    },
}
