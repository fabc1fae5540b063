"""Servers that run in a thread of the test."""

import threading
from contextlib import contextmanager


@contextmanager
def in_thread(server):
    """Have a server of ``socketserver`` serve until the block ends, and close it then."""
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
