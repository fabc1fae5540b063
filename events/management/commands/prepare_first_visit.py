"""``manage.py prepare_first_visit``: create a user to log in as, a client, and data to look at."""

import json
import secrets
from pathlib import Path
from typing import Any, TypedDict, cast

from django.conf import settings
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import User
from django.core.management.base import BaseCommand
from oauth2_provider.generators import generate_client_id, generate_client_secret
from oauth2_provider.models import Application
from typing_extensions import override

from events.access.local_secrets import kept
from events.boards.documents import demo_board
from events.management.system_checks import OWN_CHECKS
from events.models import Board, Event, Rollup

TRY_IT = """
Get a token, send an event, read the aggregates:

  TOKEN=$(curl -s -u '{client_id}:{client_secret}' \\
    -d grant_type=client_credentials -d 'scope=read write aggregation' {url}/o/token/ \\
    | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')

  curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \\
    -d '{{"namespace": "Frontend", "name": "pageView", "timestamp": "2020-11-12T11:10:00Z", "value": 1}}' \\
    {url}/api/track/

  curl -s -H "Authorization: Bearer $TOKEN" \\
    '{url}/api/events/Frontend/pageView?granularity=month&aggregationType=avg'
"""


class Credentials(TypedDict):
    """The user and the client of a first visit, with their secrets."""

    username: str
    password: str
    client_id: str
    client_secret: str


class Command(BaseCommand):
    help = (
        "Create an admin user, an OAuth2 client and the demo data, each only where missing. The first time, print how "
        "to use them; their credentials are kept in local/credentials.json with mode 600."
    )
    requires_system_checks = OWN_CHECKS

    @override
    def handle(self, *args: Any, **options: Any) -> None:
        self._path: Path = settings.LOCAL_DIR / "credentials.json"
        made = self._make_credentials()
        stored = kept(self._path, lambda: made)
        # secrets are printed once only, as what is printed at each start ends up in every log
        self._is_first = stored == made
        credentials = cast(Credentials, json.loads(stored))
        has_demo_data = self._prepare_demo_data()
        self._prepare_user(credentials)
        if has_demo_data:
            self._prepare_demo_board()
        self._prepare_client(credentials)

    def _make_credentials(self) -> str:
        credentials = Credentials(
            username="admin",
            password=secrets.token_urlsafe(12),
            client_id=generate_client_id(),
            client_secret=generate_client_secret(),
        )
        return json.dumps(credentials, indent=2)

    def _prepare_demo_data(self) -> bool:
        """Load the demo data where nothing is stored yet; tell whether that was done."""
        if not Event.objects.exists() and not Rollup.objects.exists():  # rollups may be left where events are pruned
            fixture = json.loads((settings.BASE_DIR / "data.json").read_bytes())
            # loaddata would look for each event among those that are stored, and here are none
            Event.objects.bulk_create([Event(**each["fields"]) for each in fixture], batch_size=1000)
            self.stdout.write("Demo data: loaded")
            return True
        return False

    def _prepare_demo_board(self) -> None:
        if not Board.objects.exists():
            board = demo_board()
            board.owner, board.is_shared = User.objects.filter(is_superuser=True).first(), True
            board.save()

    def _prepare_user(self, credentials: Credentials) -> None:
        username, password = credentials["username"], credentials["password"]
        if not User.objects.filter(is_superuser=True).exists():
            User.objects.create_superuser(username, password=password)
        user = User.objects.filter(username=username, is_superuser=True).first()
        known = user is not None and check_password(password, user.password)
        if not known:
            log_in = "with a superuser of your own"
        elif self._is_first:
            log_in = f"{username} / {password}"
        else:
            log_in = f"{username}, with the password in {self._path}"
        self.stdout.write(f"Log in at {self._url()}/: {log_in}")

    def _prepare_client(self, credentials: Credentials) -> None:
        application, _ = Application.objects.get_or_create(
            client_id=credentials["client_id"],
            defaults={
                "name": "First visit",
                "client_secret": credentials["client_secret"],
                "client_type": Application.CLIENT_CONFIDENTIAL,
                "authorization_grant_type": Application.GRANT_CLIENT_CREDENTIALS,
                "user": User.objects.filter(is_superuser=True).first(),
            },
        )
        if not check_password(credentials["client_secret"], application.client_secret):
            self.stdout.write("The first client's secret was changed; register another client at /o/applications/.")
            return
        self.stdout.write(f"Client id: {credentials['client_id']}")
        if not self._is_first:
            self.stdout.write(f"Client secret: in {self._path}")
            return
        self.stdout.write(f"Client secret: {credentials['client_secret']}")
        self.stdout.write(TRY_IT.format(url=self._url(), **credentials))

    def _url(self) -> str:
        # the address that means listening everywhere can't be called
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)  # noqa: S104
        return f"http://[{host}]:{settings.PORT}" if ":" in host else f"http://{host}:{settings.PORT}"
