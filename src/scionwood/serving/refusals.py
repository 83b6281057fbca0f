"""What the server says where it does not answer: one shape for every error, and no value of a request in any of them."""

from __future__ import annotations

import traceback

from pydantic import BaseModel
from starlette.responses import JSONResponse


class ErrorDetail(BaseModel):
    """What is wrong, in one line."""

    message: str
    type: str


class ErrorBody(BaseModel):
    """The body of every error, in the form that OpenAI's clients read."""

    error: ErrorDetail


KINDS = {400: "bad_request", 401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 408: "timeout",
         413: "too_large", 415: "unsupported_media_type", 422: "invalid_request", 429: "overloaded", 503: "not_ready"}


class Refused(Exception):
    """An HTTP error with its one line."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


def error_response(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The response of an error."""
    return JSONResponse({"error": {"message": message, "type": KINDS.get(status, "internal")}}, status, headers)


def where(error: BaseException) -> str:
    """File and line of an error. Its message is left out: it may hold a request's text."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
