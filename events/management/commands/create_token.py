"""``manage.py create_token``: make a long-lived token for a sender that can't ask for one."""

from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from oauth2_provider.models import Application
from typing_extensions import override

from events.access import long_lived_tokens
from events.management.system_checks import OWN_CHECKS
from events.models import LongLivedToken


@contextmanager
def _refusing(option: str) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise CommandError(f"{option}: {error.messages[0]}") from None


class Command(BaseCommand):
    help = (
        "Print a token of a client, once: it is stored as a digest. Standard output has the token and nothing else. "
        "It is listed, and revoked, on the client's page in the admin."
    )
    requires_system_checks = OWN_CHECKS

    @override
    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("client", metavar="CLIENT", help="its client id, or its name where no other has that")
        parser.add_argument("--expires", required=True, metavar="AGE", help="how long it lasts, such as 365d or 36h")
        parser.add_argument(
            "--scope", required=True, nargs="+", action="extend", metavar="SCOPE", help="one or more scopes"
        )
        parser.add_argument("--name", default="create_token", help="what it is for, as the admin lists it")

    @override
    def handle(self, *args: Any, client: str, expires: str, scope: list[str], name: str, **options: Any) -> None:
        application = self._application(client)
        with _refusing("--name"):
            LongLivedToken._meta.get_field("name").clean(name, None)
        with _refusing("--expires"):
            lifetime = long_lived_tokens.validate_lifetime(expires)
        with _refusing("--scope"):
            token = long_lived_tokens.make(application, name, " ".join(scope).split(), lifetime)
        self.stdout.write(token)

    def _application(self, client: str) -> Application:
        found = list(Application.objects.filter(client_id=client) or Application.objects.filter(name=client))
        if not found:
            raise CommandError(f"No client has the id or the name “{client}”.")
        if len(found) > 1:
            ids = ", ".join(sorted(application.client_id for application in found))
            raise CommandError(f"{len(found)} clients have the name “{client}”; give a client id: {ids}.")
        return found[0]
