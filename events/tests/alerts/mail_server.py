"""A mail server on this machine: it answers what it is told to, and keeps what came."""

from socketserver import StreamRequestHandler, ThreadingTCPServer

from events.tests.support.threads import in_thread


class MailServer(ThreadingTCPServer):
    """Answers commands by the texts in ``answers``, one after the other, and 250 or 354 where there are none left."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.came, self.port = {}, [], self.server_address[1]

    def answer(self, command, usual="250 fine"):
        left = self.answers.get(command)
        return left.pop(0) if left else usual


class _Handler(StreamRequestHandler):
    def say(self, text):
        self.wfile.write(f"{text}\r\n".encode())
        return text

    def handle(self):
        recipients = []
        self.say("220 here")
        for line in self.rfile:
            command, _, rest = line.decode().strip().partition(" ")
            command = command.upper()
            if command == "DATA":
                if self.say(self.server.answer("DATA", "354 go on"))[0] != "3":
                    continue
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line.removeprefix(b"."))
                self.server.came.append((recipients, b"".join(lines)))
                self.say(self.server.answer("."))
            elif command == "QUIT":
                self.say("221 bye")
                return
            elif self.say(self.server.answer(command))[0] == "2" and command == "RCPT":
                recipients.append(rest.partition("<")[2].partition(">")[0])


def taking():
    return in_thread(MailServer())
