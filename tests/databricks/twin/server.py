"""The twin's HTTPS server: TLS, credentials, faults, and the dispatch of requests."""

import base64
import contextlib
import json
import os
import socket
import ssl
import struct
import threading
import time
import traceback
import uuid
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.databricks.twin.core import SLOW, Fault, Refused, WithHeaders, call
from tests.databricks.twin.permissions import ADMIN, CLIENT, OTHER, Permissions

SECRET = "dose-marker-secret"  # noqa: S105
"""Token and OAuth secret of the service principal."""
ADMIN_TOKEN = "admin-marker-secret"  # noqa: S105
OTHER_TOKEN = "analyst-marker-secret"  # noqa: S105


class Server(Permissions):
    """An HTTPS server on loopback."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.pats |= {SECRET: CLIENT, ADMIN_TOKEN: ADMIN, OTHER_TOKEN: OTHER}
        """Token -> its user."""
        self.access: dict[str, float] = {}
        """OAuth access token -> time at which it expires."""
        self.lifetime = 3600.0
        self.lineages: list[Any] = []
        """What MLflow's client told with new versions of a model: its notebook or job, and the tables."""

    def listen(self) -> None:
        certificate = _certificate(self.folder)
        twin = self

        class Handler(_Handler):
            workspace = twin

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, self.folder / "key.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.host = f"https://127.0.0.1:{self._server.server_port}"
        self.environment = {
            "DATABRICKS_HOST": self.host,
            "DATABRICKS_TOKEN": SECRET,
            "DATABRICKS_AUTH_TYPE": "pat",
            "SSL_CERT_FILE": str(certificate),
            "REQUESTS_CA_BUNDLE": str(certificate),
        }

    def hang_up(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def presigned(self, path: str) -> bytes:
        raise NotImplementedError

    def take_upload(self, path: str, data: bytes) -> bytes:
        raise NotImplementedError

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        raise NotImplementedError


class _Handler(BaseHTTPRequestHandler):
    workspace: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, and Nagle's algorithm would delay the second by 40 ms

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        address = urlsplit(self.path)
        twin = self.workspace
        twin.asked.append(f"{self.command} {address.path}")
        fault = self._fault(address.path)
        if fault and fault.kind == "reset before":
            self._reset()
            return
        if fault and fault.kind == "slow":
            time.sleep(SLOW)
        try:
            self._refuse(fault)
            status, answer = 200, self._done(address.path, dict(parse_qsl(address.query)), raw)
        except Refused as error:
            status, answer = error.status, {"error_code": error.code, "message": error.message}
            if address.path.startswith("/oidc/"):
                answer = {"error": error.code, "error_description": error.message}
        except Exception:  # noqa: BLE001
            # A bug in the twin. No client retries this status, and the test fails at its end.
            twin.strange.append(traceback.format_exc())
            status, answer = 400, {"error_code": "BAD_REQUEST", "message": "the twin failed"}
        if fault and fault.kind == "reset after":
            self._reset()
            return
        headers: dict[str, str] = {}
        if isinstance(answer, WithHeaders):
            answer, headers = answer.body, answer.headers
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "1")
        if not isinstance(answer, bytes):
            self.send_header("Content-Type", "application/json")
        for name, value in {"x-databricks-org-id": "1234", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _done(self, path: str, query: dict[str, str], raw: bytes) -> Any:
        twin = self.workspace
        if path == "/.well-known/databricks-config":
            return {"oidc_endpoint": f"{twin.host}/oidc", "account_id": "5c3e-account"}
        if path == "/oidc/.well-known/oauth-authorization-server":
            return {"authorization_endpoint": f"{twin.host}/oidc/v1/authorize", "token_endpoint": f"{twin.host}/oidc/v1/token"}
        if path == "/oidc/v1/token":
            return self._token(raw)
        if path.startswith("/presigned/"):
            return twin.take_upload(path, raw) if self.command == "PUT" else twin.presigned(path)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if given not in twin.pats and twin.access.get(given, 0) < time.time():
            raise Refused(401, "UNAUTHENTICATED", "Credential was not sent or was of an unsupported type for this API.")
        twin.caller = twin.pats.get(given, CLIENT)
        if lineage := self.headers.get("x-databricks-lineage-identifier"):
            twin.lineages.append(json.loads(base64.b64decode(lineage)))
        if self.command in {"POST", "PUT", "PATCH", "DELETE"} and not path.startswith("/api/2.0/fs/"):
            try:
                body = json.loads(raw or b"{}")
            except ValueError as error:
                raise Refused(400, "MALFORMED_REQUEST", "no JSON") from error
        else:
            body = raw
        return twin.answer(self.command, path, query, body)

    @staticmethod
    def _refuse(fault: Fault | None) -> None:
        if fault and isinstance(fault.kind, int):
            codes = {429: "RESOURCE_EXHAUSTED", 503: "TEMPORARILY_UNAVAILABLE"}
            raise Refused(fault.kind, codes.get(fault.kind, "INTERNAL_ERROR"), "not now")

    def _token(self, raw: bytes) -> Any:
        twin = self.workspace
        wanted = dict(parse_qsl(raw.decode()))
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {basic}" or wanted.get("grant_type") != "client_credentials":
            raise Refused(401, "invalid_client", "Client authentication failed")
        token = f"oauth-{uuid.uuid4().hex}"
        twin.access[token] = time.time() + twin.lifetime
        return {"access_token": token, "token_type": "Bearer", "expires_in": int(twin.lifetime), "scope": "all-apis"}

    def _fault(self, path: str) -> Fault | None:
        twin = self.workspace
        plain = "/" + path.removeprefix("/api/").partition("/")[2]
        called = call(path)
        with twin.lock:
            for fault in twin.faults:
                fits = called == fault.path if fault.whole else plain.startswith(fault.path)
                if fault.method == self.command and fits and fault.seen < fault.times:
                    fault.seen += 1
                    return fault
        return None

    def _reset(self) -> None:
        # A linger time of zero ends the connection with a reset, as when a proxy restarts.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        with contextlib.suppress(OSError):
            socket.close(os.dup(self.connection.fileno()))
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_PATCH = _answer  # noqa: N815 - names that the base class looks for


def _certificate(folder: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, valid for a day."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path
