"""Stands between the coordinator of a cluster and one of its nodes, and cuts what it is told to."""

import socket
import threading
from contextlib import contextmanager, suppress


class CuttingProxy:
    """Relays to a port. It can lose one message, and all that follow on that connection, or be away altogether."""

    def __init__(self, host, port):
        self._target = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = set()
        self._lock = threading.Lock()
        self._cut_at = None
        self.cuts = 0
        self.is_away = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_once_at(self, text):
        """Lose the next message to the node that has the text, with its connection."""
        self._cut_at = text

    def go_away(self):
        """Let nobody through, and lose every connection."""
        self.is_away = True
        with self._lock:
            for connection in list(self._open):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def come_back(self):
        self.is_away = False

    def close(self):
        self._listener.close()
        self.go_away()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_away:
                client.close()
                continue
            node = socket.create_connection(self._target)
            with self._lock:
                self._open |= {client, node}
            threading.Thread(target=self._relay, args=(client, node, True), daemon=True).start()
            threading.Thread(target=self._relay, args=(node, client, False), daemon=True).start()

    def _relay(self, source, target, is_to_node):
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                cut_at = self._cut_at
                if is_to_node and cut_at and cut_at in piece:
                    self._cut_at = None
                    self.cuts += 1
                    break
                target.sendall(piece)
        for connection in (source, target):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()  # the other thread's is the target


@contextmanager
def cutting_proxy(host, port):
    proxy = CuttingProxy(host, port)
    try:
        yield proxy
    finally:
        proxy.close()
