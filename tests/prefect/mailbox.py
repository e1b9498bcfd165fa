"""Receives the notifications that the Prefect server sends."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from prefect.blocks.notifications import CustomWebhookNotificationBlock

from tests.prefect.service import until

BLOCK = "custom-webhook/told"
"""The notification block of the mailbox, for `alerts.notify`."""


class Mailbox:
    """A local HTTP server that receives notifications."""

    def __init__(self) -> None:
        self.letters: list[dict[str, str]] = []
        mailbox = self

        class Door(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                mailbox.letters.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Keep requests out of the tests' terminal."""

        self.server = HTTPServer(("127.0.0.1", 0), Door)

    def about(self, words: str) -> dict[str, str]:
        """Wait for a notification with these words in its subject."""
        return until(lambda: [letter for letter in self.letters if words in letter["subject"]], f"a letter about {words}", 30)[0]


@contextmanager
def open_mailbox() -> Iterator[Mailbox]:
    """A mailbox that the Prefect server knows as BLOCK."""
    box = Mailbox()
    threading.Thread(target=box.server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{box.server.server_port}/"
    block = CustomWebhookNotificationBlock(name="told", url=url, json_data={"subject": "{{subject}}", "body": "{{body}}"})
    block.save(BLOCK.rpartition("/")[2], overwrite=True)
    try:
        yield box
    finally:
        box.server.shutdown()
        box.server.server_close()
