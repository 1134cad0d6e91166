"""A client of gRPC services at a UNIX socket: one call at a time, in the caller's own thread.

(The usual library starts threads, and a test process with threads may not fork.) The protocol: "gRPC over HTTP2"
(PROTOCOL-HTTP2.md of the gRPC project): a message has its length in front, the status is in the trailers.
"""

from __future__ import annotations

import socket
import struct
from pathlib import Path
from urllib.parse import unquote

import h2.config
import h2.connection
import h2.events

from tests.support.patience import patient


class Refused(AssertionError):
    """The server has answered with a status other than 0; the text is the server's."""


class Channel:
    """A connection to the server at `path`."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(patient(60))
        self._socket.connect(str(path))
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self._h2 = h2.connection.H2Connection(config)
        self._events: list[h2.events.Event] = []
        self._h2.initiate_connection()
        self._flush()

    def call(self, method: str, message: bytes) -> bytes:
        """Send a message to `/SERVICE/METHOD`, and give the one that comes back."""
        stream = self._h2.get_next_available_stream_id()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        self._h2.send_headers(stream, list(headers.items()))
        self._h2.send_data(stream, struct.pack(">BI", 0, len(message)) + message, end_stream=True)
        self._flush()
        answer, told = b"", dict[str, str]()
        while (event := self._next(stream)) is not None:
            if isinstance(event, h2.events.DataReceived):
                answer += event.data
            elif isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                told |= {str(name): str(value) for name, value in event.headers}
        if told.get("grpc-status") != "0":
            raise Refused(unquote(told.get("grpc-message", f"no status, only {told}")))
        return answer[5:]

    def _next(self, stream: int) -> h2.events.Event | None:
        """The next event of this stream; None at its end."""
        while not self._events:
            raw = self._socket.recv(65536)
            if not raw:
                raise ConnectionError("the server has closed the connection")
            for event in self._h2.receive_data(raw):
                if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                    self._h2.acknowledge_received_data(event.flow_controlled_length, stream)
                if isinstance(event, h2.events.StreamReset):
                    raise Refused(f"the server has reset the stream: {event.error_code}")
                self._events.append(event)
            self._flush()
        event = self._events.pop(0)
        return None if isinstance(event, h2.events.StreamEnded) else event

    def _flush(self) -> None:
        self._socket.sendall(self._h2.data_to_send())

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
