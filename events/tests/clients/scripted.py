"""A service that answers as a test says."""

import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TOKEN = (200, {}, b'{"access_token": "token", "expires_in": 3600}')
ACCEPTED = (201, {}, b'{"accepted": 1}')


class Scripted(ThreadingHTTPServer):
    """Gives tokens, and to all else the answers that were put in; 201 once there are none left."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = deque()
        self.token_answers = deque()
        self.calls = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def paths(self):
        return [path for _, path, _, _ in self.calls]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server = self.server
        server.calls.append((time.monotonic(), self.path, self.headers, body))
        if self.path == "/o/token/":
            answer = server.token_answers.popleft() if server.token_answers else TOKEN
        else:
            answer = server.answers.popleft() if server.answers else ACCEPTED
        status, headers, content = answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST

    def log_message(self, *arguments):
        pass
