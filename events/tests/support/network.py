"""A network between a client and a service that can be cut, and that can lose answers."""

import socket
import threading
from contextlib import contextmanager, suppress

from events.tests.support.service import free_port


class Network:
    """A port that leads to another one.

    ``is_cut``: nothing gets through. ``answers_to_lose``: as many answers of the service to a POST of events are read
    whole, and the connection ends in their place.
    """

    def __init__(self, target):
        self.target = target
        self.port = free_port()
        self.is_cut = False
        self.answers_to_lose = 0
        self.lost = 0
        self.requests = []  # the heads of requests to track
        self._open = set()
        self._listener = socket.create_server(("127.0.0.1", self.port))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def cut(self):
        self.is_cut = True
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def mend(self):
        self.is_cut = False

    def run(self):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(near,), daemon=True).start()

    def _forward(self, near):
        with suppress(OSError), near:
            if self.is_cut:
                return
            with socket.create_connection(("127.0.0.1", self.target), timeout=60) as far:
                self._open |= {near, far}
                while not self.is_cut:
                    request = self._message(near)
                    if not request:
                        break
                    is_to_track = request.startswith(b"POST /api/track/")
                    if is_to_track:
                        # before it is sent on: whoever sees its events stored has it in the list too
                        self.requests.append(request.partition(b"\r\n\r\n")[0].decode())
                    far.sendall(request)
                    answer = self._message(far)
                    if is_to_track and self.answers_to_lose:
                        self.answers_to_lose -= 1
                        self.lost += 1
                        break
                    near.sendall(answer)
                self._open -= {near, far}

    def _message(self, connection):
        received = b""
        while b"\r\n\r\n" not in received:
            piece = connection.recv(65_536)
            if not piece:
                return b""
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        lengths = [
            line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        length = int(lengths[0]) if lengths else 0
        while len(body) < length:
            piece = connection.recv(65_536)
            if not piece:
                return b""
            body += piece
        return head + b"\r\n\r\n" + body

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()


@contextmanager
def network(target):
    """A way to the port ``target`` that can be cut."""
    way = Network(target)
    threading.Thread(target=way.run, daemon=True).start()
    try:
        yield way
    finally:
        way.close()
