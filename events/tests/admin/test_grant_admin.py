"""The grant on the admin page of its OAuth2 application."""

import pytest
from rest_framework.test import APIClient

from events.log.namespace_patterns import validate_patterns
from events.models import Grant

EVENT = {"namespace": "Shop", "name": "order", "timestamp": "2020-11-12T11:10:00Z", "value": 1}


@pytest.fixture
def page(application):
    return f"/admin/oauth2_provider/application/{application.pk}/change/"


def form_of(client, page):
    """What a browser sends when nothing is touched."""
    response = client.get(page)
    formsets = [inline.formset for inline in response.context["inline_admin_formsets"]]
    forms = [form for formset in formsets for form in (formset.management_form, *formset.forms)]
    forms = [response.context["adminform"].form, *forms]
    fields = {bound.html_name: bound.value() for form in forms for bound in form}
    return {name: value for name, value in fields.items() if value is not None and value is not False}


def save(client, page, **changes):
    changed = {f"client_grant-0-{name}": value for name, value in changes.items()}
    return client.post(page, {**form_of(client, page), **changed})


def test_saving_the_page_untouched_grants_everything_still(client, page):
    assert save(client, page).status_code == 302
    assert not Grant.objects.exists()


def test_a_grant_is_made_changed_and_taken_back(client, page, application):
    assert save(client, page, write_namespaces="Shop\r\n Shop-*", read_namespaces="").status_code == 302
    grant = Grant.objects.get()
    assert (grant.application, grant.scopes) == (application, {"write", "aggregation"})
    assert [namespace in grant.namespaces("write") for namespace in ("Shop", " Shop-eu", "Shop-eu")] == [
        True, True, False,
    ]  # fmt: skip
    assert str(grant) == "Shop: aggregation write"

    assert save(client, page, aggregation_namespaces="", write_namespaces="").status_code == 302
    assert str(Grant.objects.get()) == "Shop: nothing"

    assert save(client, page, DELETE="on").status_code == 302
    assert not Grant.objects.exists()


def test_blanks_at_the_ends_are_kept(client, page):
    save(client, page, write_namespaces=" Shop ")

    assert Grant.objects.get().write_namespaces == " Shop "


def test_it_takes_effect_at_once_in_this_process(client, page, make_token):
    api = APIClient(headers={"Authorization": f"Bearer {make_token('write')}"})
    assert api.post("/api/track/", EVENT).status_code == 201

    save(client, page, write_namespaces="Other")
    assert api.post("/api/track/", EVENT).status_code == 403

    save(client, page, write_namespaces="Sh*")
    assert api.post("/api/track/", EVENT).status_code == 201


STAR = "“*” may only end a pattern."
SEGMENT = "no namespace contains “/” nor is “.” or “..”."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Shop\n*hop", f"“*hop”: {STAR}"),
        ("Sh*p", f"“Sh*p”: {STAR}"),
        ("Shop**", f"“Shop**”: {STAR}"),
        ("Shop* ", f"“Shop* ”: {STAR}"),
        ("Shop/order", f"“Shop/order”: {SEGMENT}"),
        ("Shop/*", f"“Shop/*”: {SEGMENT}"),
        ("..", f"“..”: {SEGMENT}"),
        ("x" * 256, f"“{'x' * 50}…”: no namespace is longer than 255 characters."),
    ],
)
def test_it_refuses_a_pattern_that_matches_nothing(client, page, text, said):
    response = save(client, page, write_namespaces=text)

    assert response.status_code == 200
    assert response.context["inline_admin_formsets"][0].formset.errors == [{"write_namespaces": [said]}]
    assert not Grant.objects.exists()


@pytest.mark.parametrize("text", ["", "*", "Shop\r\n\r\nShop-*\r\n", "x" * 255, f"{'x' * 255}*", "..*", " Shop "])
def test_it_takes_others(text):
    validate_patterns(text)


def test_an_application_page_says_what_a_grant_means(client, page):
    assert "“Shop-*” is all that begin with “Shop-”" in client.get(page).text
