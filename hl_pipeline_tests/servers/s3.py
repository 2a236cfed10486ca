"""A real S3 server (moto's, over HTTP) with requester-pays buckets. Like AWS, it refuses requests without the header."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from hl_pipeline_tests.marked_secrets import SECRET

REGION = "ap-northeast-1"
_NOT_IMPLEMENTED = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NotImplemented</Code>'
    b"<Message>Header 'x-amz-request-payer' with value 'requester' not implemented</Message></Error>"
)
_DENIED = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'


@dataclass(slots=True)
class S3Server:
    """The server. `requests`: (method, path, whether the requester pays), in order.

    Buckets in `ours` do not need the requester-pays header. Buckets in `free` refuse it, like a store that does not support it
    (Cloudflare R2). While `answers` is not set, requests wait.
    """

    url: str
    ours: set[str] = field(default_factory=set[str])
    free: set[str] = field(default_factory=set[str])
    requests: list[tuple[str, str, bool]] = field(default_factory=list[tuple[str, str, bool]])
    answers: threading.Event = field(default_factory=threading.Event)
    _client: Any = None

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": REGION,
        }

    def client(self) -> Any:
        """Return a boto3 client with which tests fill buckets. It is created once, since that takes a tenth of a second."""
        if self._client is not None:
            return self._client
        client = boto3.client(
            "s3", endpoint_url=self.url, region_name=REGION, aws_access_key_id="test", aws_secret_access_key=SECRET
        )
        client.meta.events.register(
            "before-sign.s3", lambda request, **_: request.headers.add_header("x-amz-request-payer", "requester")
        )
        self._client = client
        return client

    def new_bucket(self) -> str:
        """Create a bucket that needs no requester-pays header, and return its URL."""
        name = f"ours-{uuid.uuid4().hex}"
        self.client().create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
        self.ours.add(name)
        return f"s3://{name}"


class FreeMeter:
    """A meter that allows every request."""

    def begin(self, method: str, bucket: str, key: str, expected_bytes: int) -> int:  # noqa: ARG002
        return 0

    def end(self, request: int, status: int | None, received_bytes: int, error: str | None) -> None:
        pass


@contextmanager
def serve_s3(host: str = "127.0.0.1") -> Generator[S3Server]:
    """Serve until the block ends."""
    backend = DomainDispatcherApplication(create_backend_app)
    server = S3Server("")
    server.answers.set()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        server.answers.wait(60)
        pays = environ.get("HTTP_X_AMZ_REQUEST_PAYER") == "requester"
        server.requests.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], pays))
        bucket = environ["PATH_INFO"].split("/")[1]
        refused = None
        if pays and bucket in server.free:
            refused = "501 Not Implemented", _NOT_IMPLEMENTED
        elif not pays and bucket not in server.ours | server.free:
            refused = "403 Forbidden", _DENIED
        if refused is not None:
            status, body = refused
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        return backend(environ, start_response)

    with_http = make_server(host, 0, application, threaded=True)
    server.url = f"http://{host}:{with_http.server_port}"
    thread = threading.Thread(target=with_http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.answers.set()
        with_http.shutdown()
        thread.join()
