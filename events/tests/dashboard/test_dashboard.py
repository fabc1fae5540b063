"""``/``, and what its session opens of the API."""

import re
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.test import Client
from rest_framework.test import APIClient

from events.http.middleware import CONTENT_SECURITY_POLICY
from events.models import SeriesSettings
from events.series_pages import SeriesForm
from events.tests.support.forms import stored_meanwhile

CATALOGUE = "/api/events/"
SERIES = "/api/events/Frontend/pageView"
READS = [CATALOGUE, SERIES, "/api/series/", "/api/series/Frontend/pageView"]
EVENT = {"namespace": "Frontend", "name": "pageView", "timestamp": "2020-11-12T11:10:00Z", "value": 142}
NOT_PROVIDED = {"detail": "Authentication credentials were not provided."}
LACKS_PERMISSION = {"detail": "You lack the permission to view events."}
CSRF_MISSING = {"detail": "CSRF Failed: CSRF token missing."}


@pytest.fixture
def make_client(db):
    """Makes a browser of a user, who may view events or not."""

    def make(may_view=True, **fields):
        user = User.objects.create_user("ada", password="lovelace", **fields)
        if may_view:
            user.user_permissions.add(Permission.objects.get(codename="view_event"))
        client = Client(enforce_csrf_checks=True)
        client.force_login(user)
        return client

    return make


def test_a_user_who_may_view_events_sees_the_dashboard(make_client):
    response = make_client().get("/")

    assert (response.status_code, response.templates[0].name) == (200, "events/overview.html")
    assert "Log out ada" in response.text
    assert "/admin/" not in response.text


def test_staff_also_find_the_admin_and_the_events(make_client):
    page = make_client(is_staff=True).get("/chart").text

    assert '<a href="/admin/">Admin</a>' in page
    assert 'data-events="/admin/events/event/"' in page


def test_who_is_signed_out_logs_in_and_comes_back(db):
    User.objects.create_superuser("ada", password="lovelace")
    client = Client()
    page = "/chart?series=Frontend%2FpageView&range=7d"

    response = client.get(page)
    log_in = "/accounts/login/?next=/chart%3Fseries%3DFrontend%252FpageView%26range%3D7d"
    assert (response.status_code, response["Location"]) == (302, log_in)
    next_page = client.get(log_in).context["next"]
    response = client.post("/accounts/login/", {"username": "ada", "password": "lovelace", "next": next_page})

    assert (response.status_code, response["Location"]) == (302, page)
    assert client.get(page).status_code == 200


def test_logging_in_leads_to_the_dashboard(db):
    User.objects.create_superuser("ada", password="lovelace")

    response = Client().post("/accounts/login/", {"username": "ada", "password": "lovelace"})

    assert (response.status_code, response["Location"]) == (302, "/")


def test_who_may_not_view_events_is_told_so(make_client):
    response = make_client(may_view=False).get("/")

    assert response.status_code == 403
    assert "The dashboard is for users with the permission “Can view event”." in response.text
    assert "Log out ada" in response.text


@pytest.mark.parametrize(
    ("path", "may_view"),
    [
        ("/", True),
        ("/", False),
        ("/", None),
        ("/chart", True),
        ("/chart", False),
        ("/series/Shop/order", True),
        ("/accounts/login/", None),
    ],
)
def test_its_pages_load_nothing_from_elsewhere(make_client, path, may_view):
    client = Client() if may_view is None else make_client(may_view)

    response = client.get(path)

    assert response["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?! type=\"module\" src=\"/static/)|https?:", response.text)


@pytest.mark.parametrize("page", ["/", "/chart", "/accounts/login/"])
def test_the_files_that_its_pages_name_are_there(make_client, page):
    text = (Client() if "login" in page else make_client()).get(page).text

    names = re.findall(r'"/static/([^"]+)"', text)

    assert len(names) >= 2
    assert all(finders.find(name) for name in names)


@pytest.mark.parametrize("path", ["/", "/chart"])
def test_the_page_is_small_and_needs_few_queries(make_client, django_assert_num_queries, path):
    client = make_client()

    # the session, the user, the permissions of both kinds, and whom to ask for one
    with django_assert_num_queries(5):
        assert len(client.get(path).content) < 11_000


@pytest.mark.parametrize(
    "query", ["series=a%2Fb", "series=a%2Fb&series=c%2F%C3%A4&from=2020-01-01", "range=7d", "view=table&compare=1"]
)
def test_a_link_of_when_the_chart_was_here_leads_to_it(make_client, query):
    response = make_client().get(f"/?{query}")

    assert (response.status_code, response["Location"]) == (302, f"/chart?{query}")


def test_a_query_of_the_overview_stays(make_client):
    assert make_client().get("/?search=a&order=-count&page=2&hidden=yes").status_code == 200


# The page of a series.

SERIES_PAGE = "/series/Frontend/pageView"


@pytest.fixture
def series_client(make_client, make_event):
    """A browser of a user who may change series; its POST has the token that Django asks for."""
    make_event(value=142.0)
    client = make_client()
    User.objects.get().user_permissions.add(Permission.objects.get(codename="change_seriessettings"))
    token = client.get(SERIES_PAGE).cookies["csrftoken"].value
    client.say = lambda **form: client.post(SERIES_PAGE, form, headers={"X-CSRFToken": token})
    return client


def test_what_is_said_of_a_series_is_stored(series_client):
    response = series_client.say(description="Views of a page", unit="bytes", is_hidden="on")

    assert (response.status_code, response["Location"]) == (302, f"{SERIES_PAGE}?saved=1")
    [stored] = SeriesSettings.objects.values("namespace", "name", "description", "unit", "is_hidden")
    assert stored == {
        "namespace": "Frontend", "name": "pageView", "description": "Views of a page", "unit": "bytes",
        "is_hidden": True,
    }  # fmt: skip
    assert "Views of a page" in series_client.get(SERIES_PAGE).text
    series_client.say(description="", unit="")
    assert SeriesSettings.objects.values_list("description", "unit", "is_hidden").get() == ("", "", False)


def test_what_is_said_at_once_by_two_is_stored_one_after_the_other(transactional_db, series_client, monkeypatch):
    stored_meanwhile(monkeypatch, SeriesForm, SeriesSettings(namespace="Frontend", name="pageView", unit="EUR"))

    assert series_client.say(description="Views of a page", unit="bytes").status_code == 302
    assert SeriesSettings.objects.values_list("description", "unit").get() == ("Views of a page", "bytes")


@pytest.mark.parametrize("name", ["a?b", "a#b", "100%25"])
def test_who_saves_a_series_comes_back_to_it(make_client, make_event, name):
    make_event(name=name)
    client = make_client()
    User.objects.get().user_permissions.add(Permission.objects.get(codename="change_seriessettings"))
    path = f"/series/Frontend/{quote(name)}"
    token = client.get(path).cookies["csrftoken"].value

    response = client.post(path, {"unit": "B"}, headers={"X-CSRFToken": token})

    assert (response.status_code, response["Location"]) == (302, f"{path}?saved=1")
    assert SeriesSettings.objects.values_list("name", "unit").get() == (name, "B")


def test_what_is_too_long_is_refused(series_client):
    response = series_client.say(unit="x" * 21, description="x" * 2001)

    assert response.status_code == 400
    assert "Ensure this value has at most 20 characters" in response.text
    assert not SeriesSettings.objects.exists()


def test_who_may_not_change_series_sees_what_is_said_and_changes_nothing(make_client, make_event):
    make_event(value=142.0)
    client = make_client()
    page = client.get(SERIES_PAGE)

    assert "Changing this needs the permission “Can change series settings”." in page.text
    assert "<button" not in page.text.split("</header>")[1]
    response = client.post(SERIES_PAGE, {"unit": "EUR"}, headers={"X-CSRFToken": page.cookies["csrftoken"].value})
    assert response.status_code == 403
    assert not SeriesSettings.objects.exists()


def test_without_the_token_of_its_form_nothing_is_changed(series_client):
    assert series_client.post(SERIES_PAGE, {"unit": "EUR"}).status_code == 403
    assert not SeriesSettings.objects.exists()


@pytest.mark.parametrize(
    "path", ["/series/Frontend/nothing", "/series/../x", "/series/%20/x", f"/series/{'x' * 256}/y"]
)
def test_a_series_that_is_not_there_has_no_page(make_client, path):
    assert make_client().get(path).status_code == 404


def test_a_series_of_which_only_words_are_left_has_a_page(make_client):
    SeriesSettings.objects.create(namespace="Frontend", name="pageView", description="Views of a page")

    page = make_client().get(SERIES_PAGE)

    assert page.status_code == 200
    assert "It has no events." in page.text


def test_a_session_reads(make_client, make_event):
    make_event(value=142.0)
    client = make_client()

    response = client.get(CATALOGUE)
    assert (response.status_code, [line["name"] for line in response.json()]) == (200, ["pageView"])
    response = client.get(SERIES)
    answer = [{"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 142.0}]
    assert (response.status_code, response.json()) == (200, answer)
    assert "Cookie" in response["Vary"]
    assert client.get(SERIES, headers={"If-None-Match": response["ETag"]}).status_code == 304


@pytest.mark.parametrize("path", READS)
def test_a_session_without_the_permission_reads_nothing(make_client, path):
    response = make_client(may_view=False).get(path)

    assert (response.status_code, response.json()) == (403, LACKS_PERMISSION)


@pytest.mark.parametrize("path", READS)
def test_an_inactive_user_reads_nothing(make_client, path):
    client = make_client()
    User.objects.update(is_active=False)

    response = client.get(path)

    assert (response.status_code, response.json()) == (401, NOT_PROVIDED)
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'
    assert client.get("/").status_code == 302


def test_a_session_never_writes(make_client):
    client = make_client(is_superuser=True)
    token = client.get("/").cookies["csrftoken"].value

    for headers in ({}, {"X-CSRFToken": token}):
        response = client.post("/api/track/", EVENT, "application/json", headers=headers)
        assert (response.status_code, response.json()) == (401, NOT_PROVIDED)
        assert response["WWW-Authenticate"] == 'Bearer realm="api"'


@pytest.mark.parametrize("path", READS)
def test_a_session_is_checked_against_forgery_on_whatever_is_no_read(make_client, path):
    client = make_client()
    token = client.get("/").cookies["csrftoken"].value

    response = client.post(path)
    assert (response.status_code, response.json()) == (403, CSRF_MISSING)
    assert client.post(path, headers={"X-CSRFToken": token}).status_code == 405


FROM_ELSEWHERE = {"detail": "Another site’s page asked for this: go there from the dashboard or by the address itself."}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "none", "Referer": "https://elsewhere.example/"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Referer": "http://testserver/"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),  # of a neighbour, which may be anybody's
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Sec-Fetch-Site": "none, cross-site"}, 403),
        # by plain HTTP from another machine browsers don't send it
        ({}, 200),
        ({"Referer": "http://testserver/?series=a%2Fb"}, 200),
        ({"Referer": "http://TestServer/"}, 200),
        ({"Referer": "https://trusted.example:8443/x"}, 200),
        ({"Referer": "https://trusted.example/"}, 403),
        ({"Referer": "https://elsewhere.example/?http://testserver/"}, 403),
        ({"Referer": "https://testserver.elsewhere.example/"}, 403),
        ({"Referer": "http://testserver:81/"}, 403),
        ({"Referer": "http://[/"}, 403),
        ({"Origin": "http://testserver", "Referer": "https://elsewhere.example/"}, 200),
        ({"Origin": "https://elsewhere.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
@pytest.mark.parametrize("path", [*READS, f"{SERIES}?format=csv&granularity=minute&fill=zero"])
@pytest.mark.parametrize("method", ["get", "head"])
def test_no_other_site_starts_work_by_the_cookie_of_a_user(make_client, path, headers, status, method, settings):
    settings.CSRF_TRUSTED_ORIGINS = ["https://trusted.example:8443"]

    response = getattr(make_client(), method)(path, headers=headers)

    assert response.status_code == status
    if status == 403 and method == "get":
        assert response.json() == FROM_ELSEWHERE


@pytest.mark.parametrize("path", READS)
def test_a_token_works_from_wherever_it_is_sent(client_with_scopes, path):
    client = client_with_scopes("read aggregation")

    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://elsewhere.example"}
    assert client.get(path, headers=headers).status_code == 200


def test_who_is_signed_out_is_told_so_wherever_the_link_was(db):
    response = Client().get(CATALOGUE, headers={"Sec-Fetch-Site": "cross-site"})

    assert (response.status_code, response.json()) == (401, NOT_PROVIDED)


@pytest.mark.parametrize("behind", [True, False], ids=["BearerMiddleware", "no BearerMiddleware"])
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer unknown", "Basic YWRhOmxvdmVsYWNl", "Token x"])
@pytest.mark.parametrize("path", READS)
def test_a_request_that_names_its_own_credentials_never_falls_back_to_the_session(
    make_client, path, header, behind, settings
):
    if not behind:
        settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "BearerMiddleware" not in name]

    response = make_client().get(path, headers={"Authorization": header})

    assert response.status_code == 401
    assert response["WWW-Authenticate"].startswith('Bearer realm="api"')


@pytest.mark.parametrize("path", READS)
def test_a_token_without_the_scope_is_not_helped_by_the_permission(make_token, make_client, path):
    make_client()
    token = make_token("write", user=User.objects.get())

    assert APIClient(headers={"Authorization": f"Bearer {token}"}).get(path).status_code == 403
