"""The pages on which users register clients, say what each may do, and get its id and secret, the secret once."""

from __future__ import annotations

import shlex
from typing import Any

from django import forms
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from oauth2_provider.generators import generate_client_id, generate_client_secret
from oauth2_provider.models import Application

from events.access.models import ClientUsage, Grant
from events.access.permissions import PermittedPage
from events.http.simultaneous import again_where_taken
from events.log.namespace_patterns import ALL, lines_of, validate_patterns

_SCOPES = {
    "write": "write: store events",
    "read": "read: list series",
    "aggregation": "aggregation: read aggregates of events",
}
_ROWS = {"rows": 3, "spellcheck": "false"}
_NAMESPACES_HELP = "One a line, such as Shop, or the beginning of some and an asterisk, such as Shop-*. * is all."


class RegisterForm(forms.Form):
    """A new client: what it is called, what it may do, and where."""

    name = forms.CharField(max_length=255, help_text="Whatever tells you what it is, such as the program that calls.")
    scopes = forms.MultipleChoiceField(
        label="It may",
        choices=list(_SCOPES.items()),
        initial=list(_SCOPES),
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one thing that it may do."},
    )
    namespaces = forms.CharField(
        label="In the namespaces",
        initial=ALL,
        strip=False,
        validators=[validate_patterns],
        widget=forms.Textarea(attrs=_ROWS),
        help_text=_NAMESPACES_HELP,
    )

    def clean_namespaces(self) -> str:
        """Return the patterns. Raises ValidationError where there are none, but blank lines."""
        text: str = self.cleaned_data["namespaces"]
        if not lines_of(text):
            raise forms.ValidationError(self.fields["namespaces"].error_messages["required"], code="required")
        return text

    def grant(self) -> Grant:
        """Return the grant that the form asks for, without a client yet."""
        chosen, namespaces = self.cleaned_data["scopes"], self.cleaned_data["namespaces"]
        return Grant(**{f"{scope}_namespaces": namespaces if scope in chosen else "" for scope in _SCOPES})


class ClientForm(forms.ModelForm):
    """A client that is there: its name, and where it may do what."""

    name = forms.CharField(max_length=255)

    class Meta:
        model = Grant
        fields = ("write_namespaces", "read_namespaces", "aggregation_namespaces")
        labels = {f"{scope}_namespaces": f"Namespaces for {text}" for scope, text in _SCOPES.items()}
        widgets = {f"{scope}_namespaces": forms.Textarea(attrs=_ROWS) for scope in _SCOPES}
        help_texts = {f"{scope}_namespaces": f"{_NAMESPACES_HELP} Empty: nowhere." for scope in _SCOPES}

    field_order = ("name",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for scope in _SCOPES:
            self.fields[f"{scope}_namespaces"].strip = False  # type: ignore[attr-defined]  # blanks count


class ClientPage(PermittedPage):
    """A page for users who may add clients, as a new client may do whatever its user says; each sees their own."""

    permission_required = "oauth2_provider.add_application"
    refusal_template = "events/no_clients.html"

    @property
    def clients(self) -> QuerySet[Application]:
        """Return the clients of this user, by name."""
        found: QuerySet[Application] = Application.objects.filter(user=self.request.user)
        return found.select_related("client_grant").order_by("name", "pk")

    def client(self, pk: int) -> Application:
        """Return a client of this user. Raises Http404."""
        found: Application | None = self.clients.filter(pk=pk).first()
        if found is None:
            raise Http404("There is no such client of yours.")
        return found

    def show(self, client: Application, secret: str = "") -> HttpResponse:
        """Show a client, with its secret where that was just made; that answer is kept nowhere."""
        grant: Grant | None = getattr(client, "client_grant", None)
        context = {
            "client": client,
            "grant": grant,
            "allowed": _allowed(grant),
            "secret": secret,
            "commands": _commands(self.request, client, grant, secret),
            "usage": ClientUsage.objects.filter(client=client.client_id).first(),
        }
        response = render(self.request, "events/clients/client.html", context)
        if secret:
            add_never_cache_headers(response)
        return response


class ClientList(ClientPage):
    """Lists the clients that a user has registered."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the clients, and what each may do."""
        clients = [(client, _allowed(getattr(client, "client_grant", None))) for client in self.clients]
        return render(request, "events/clients/list.html", {"clients": clients})


class ClientRegistration(ClientPage):
    """Registers a client."""

    def get(self, request: HttpRequest) -> HttpResponse:
        """Show the form."""
        return self._form(RegisterForm(label_suffix=""))

    def post(self, request: HttpRequest) -> HttpResponse:
        """Store the client together with its grant, and show its id and secret."""
        form = RegisterForm(request.POST, label_suffix="")
        if not form.is_valid():
            return self._form(form, status=400)
        secret = generate_client_secret()
        with transaction.atomic():
            client = Application.objects.create(
                name=form.cleaned_data["name"],
                user=request.user,
                client_id=generate_client_id(),
                client_secret=secret,
                client_type=Application.CLIENT_CONFIDENTIAL,
                authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
            )
            grant = form.grant()
            grant.application = client
            grant.save()
        return self.show(client, secret)

    def _form(self, form: RegisterForm, status: int = 200) -> HttpResponse:
        return render(self.request, "events/clients/register.html", {"form": form}, status=status)


class ClientDetail(ClientPage):
    """Shows a client."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the client; its secret is stored as a digest, so that is not there."""
        return self.show(self.client(pk))


class ClientUpdate(ClientPage):
    """Changes a client's name, and what it may do."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Show the form; a client without a grant may do everything."""
        client = self.client(pk)
        return self._form(client, ClientForm(instance=_grant_of(client), initial={"name": client.name}))

    @again_where_taken
    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Store both, and lead to the client."""
        client = self.client(pk)
        form = ClientForm(request.POST, instance=_grant_of(client), initial={"name": client.name})
        if not form.is_valid():
            return self._form(client, form, status=400)
        with transaction.atomic():
            client.name = form.cleaned_data["name"]
            client.save(update_fields=["name", "updated"])
            form.save()
        return redirect("oauth2_provider:detail", pk=pk)

    def _form(self, client: Application, form: ClientForm, status: int = 200) -> HttpResponse:
        form.label_suffix = ""
        return render(self.request, "events/clients/update.html", {"form": form, "client": client}, status=status)


class ClientSecret(ClientPage):
    """Gives a client another secret."""

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Store a new secret, and show it; the one before is good no more, and tokens that were issued go on."""
        client = self.client(pk)
        secret = generate_client_secret()
        client.client_secret = secret
        client.save(update_fields=["client_secret", "updated"])
        return self.show(client, secret)


class ClientDelete(ClientPage):
    """Deletes a client."""

    def get(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Ask whether that is meant."""
        return render(request, "events/clients/delete.html", {"client": self.client(pk)})

    def post(self, request: HttpRequest, pk: int) -> HttpResponse:
        """Delete the client with its tokens and its grant, and lead to the others."""
        self.client(pk).delete()
        return redirect("oauth2_provider:list")


def _grant_of(client: Application) -> Grant:
    everything = {f"{scope}_namespaces": ALL for scope in _SCOPES}
    return getattr(client, "client_grant", None) or Grant(application=client, **everything)


def _allowed(grant: Grant | None) -> list[tuple[str, str]]:
    """List the scopes that a client has, each with its namespaces as a text."""
    if grant is None:
        return [(scope, "everywhere") for scope in _SCOPES]
    patterns = {scope: lines_of(getattr(grant, f"{scope}_namespaces")) for scope in _SCOPES}
    return [(scope, "everywhere" if ALL in of else ", ".join(of)) for scope, of in patterns.items() if of]


def _commands(request: HttpRequest, client: Application, grant: Grant | None, secret: str) -> str:
    """Write the README's commands for a client, as far as it may carry them out.

    Where the secret isn't known, they take it from ``$CLIENT_SECRET``.
    """
    scopes = [scope for scope, _ in _allowed(grant)]
    origin = request.build_absolute_uri("/").rstrip("/")
    token_url = origin + reverse("oauth2_provider:token")
    who = shlex.quote(f"{client.client_id}:{secret}") if secret else f'{client.client_id}:"$CLIENT_SECRET"'
    lines = [
        f"TOKEN=$(curl -s -u {who} \\",
        f"  -d grant_type=client_credentials -d 'scope={' '.join(scopes)}' {token_url} \\",
        """  | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')""",
    ]
    authorized = 'curl -s -H "Authorization: Bearer $TOKEN"'
    if "write" in scopes:
        namespace = shlex.quote(f"namespace={_example(grant, 'write')}")
        lines += [
            "",
            f"{authorized} --data-urlencode {namespace} -d name=order -d timestamp=$(date +%s) -d value=1 \\",
            f"  {origin}/api/track/",
        ]
    if "aggregation" in scopes:
        query = "granularity=hour&aggregationType=sum"
        segment = request.build_absolute_uri(reverse("aggregation", args=[_example(grant, "aggregation"), "order"]))
        lines += ["", f"{authorized} {shlex.quote(f'{segment}?{query}')}"]
    if "read" in scopes:
        lines += ["", f"{authorized} {origin}/api/series/"]
    return "\n".join(lines)


def _example(grant: Grant | None, scope: str) -> str:
    """Return a namespace in which the client has the scope."""
    patterns = lines_of(getattr(grant, f"{scope}_namespaces")) if grant else [ALL]
    first = patterns[0]
    return "Shop" if first == ALL else first.removesuffix("*") + ("x" if first.endswith("*") else "")
