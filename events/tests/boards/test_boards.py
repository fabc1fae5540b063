"""The pages of boards: who sees and changes one, what it may hold, and the public link."""

import json
from urllib.parse import quote

import pytest
from django.contrib.auth.models import Permission, User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from rest_framework.test import APIClient

from events.boards.documents import BoardSerializer, demo_board, document_of, series_of
from events.boards.models import digest_of
from events.boards.pages import BoardPage
from events.models import Board
from events.tests.support.rolling_up import roll_up_all

STATE = "series=Shop%2Forder&type=sum"
OTHER = "series=Shop%2Fvisit&series=Blog%2Fpost&granularity=day&kind=bars"


@pytest.fixture
def make_user(db):
    """Makes a user who may view events, with more permissions if wished, and a browser of theirs."""

    def make(name, *permissions, **fields):
        user = User.objects.create(username=name, **fields)
        user.user_permissions.set(Permission.objects.filter(codename__in=["view_event", *permissions]))
        browser = Client()
        browser.force_login(user)
        return user, browser

    return make


@pytest.fixture
def ann(make_user):
    return make_user("ann", "publish_board")


@pytest.fixture
def bob(make_user):
    return make_user("bob")


@pytest.fixture
def board(ann):
    charts = [
        {"id": f"{number}", "title": f"Chart {number}", "state": state} for number, state in enumerate([STATE, OTHER])
    ]
    return Board.objects.create(owner=ann[0], name="Sales", view="range=7d&timezone=UTC", charts=charts)


def path(board, rest=""):
    return f"/boards/{board.key}/{rest}"


def do(browser, board, action, **fields):
    return browser.post(path(board), {"action": action, **fields})


def titles(board):
    board.refresh_from_db()
    return [chart["title"] for chart in board.charts]


def test_a_board_is_made_and_filled_from_a_chart(ann):
    user, browser = ann

    made = browser.post("/boards/", {"name": "Sales", "is_shared": "on"})
    board = Board.objects.get()
    asked = browser.get(f"/boards/add?{STATE}&range=24h")
    added = browser.post(
        "/boards/add", {"key": board.key, "title": " Orders ", "state": f"?{STATE}&range=24h&view=table&timezone=UTC"}
    )
    new = browser.post("/boards/add", {"key": "", "name": "Another", "title": "", "state": OTHER})

    assert (made.status_code, made["Location"]) == (302, path(board))
    assert (board.owner, board.name, board.is_shared) == (user, "Sales", True)
    assert f'<option value="{board.key}">Sales</option>' in asked.content.decode()
    assert (added.status_code, added["Location"]) == (302, path(board))
    board.refresh_from_db()
    assert [(each["title"], each["state"]) for each in board.charts] == [("Orders", STATE)]
    other = Board.objects.get(name="Another")
    assert (new["Location"], [each["state"] for each in other.charts]) == (path(other), [OTHER])
    assert "Sales" in browser.get("/boards").content.decode()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"state": "type=sum"}, "state: A chart needs a series."),
        ({"state": "series=Shop"}, "state: “Shop” is not accepted as series."),
        ({"state": f"{STATE}&kind=pie"}, "state: “pie” is not accepted as kind."),
        ({"state": f"{STATE}&color=red"}, "state: “color” is unknown. Accepted: series, granularity, type, compare, kind, gaps, scale, axes, formula, hide."),
        ({"state": "&".join(f"series=a%2F{number}" for number in range(7))}, "state: “a/6” is not accepted as series."),
        ({"state": f"{STATE}&formula=a%0Ab"}, "state: “a\nb” is not accepted as formula."),
        ({"state": STATE, "title": "a" * 101}, "title: Ensure this field has no more than 100 characters."),
        ({"state": STATE, "name": ""}, "A new board needs a name."),
    ],
)  # fmt: skip
def test_a_chart_that_cannot_be_drawn_is_refused(ann, fields, said):
    response = ann[1].post("/boards/add", {"key": "", "name": "New", "title": "", **fields})

    assert response.status_code == 400
    assert f'role="alert">{said}</p>' in response.content.decode()
    assert not Board.objects.exists()


def test_who_sees_a_board(ann, bob, board, make_user):
    stranger, viewer = Client(), bob[1]
    _, keeper = make_user("eve", "change_board")

    assert stranger.get(path(board)).status_code == 302
    assert viewer.get(path(board)).status_code == viewer.get(path(board, "export")).status_code == 404
    assert "Sales" not in viewer.get("/boards/").content.decode()
    assert ann[1].get(path(board)).status_code == keeper.get(path(board)).status_code == 200
    board.is_shared = True
    board.save()
    page = viewer.get(path(board))
    assert page.status_code == 200
    assert b"Of ann, shared with all users" in page.content
    assert b'id="settings"' not in page.content
    nobody = Client()
    nobody.force_login(User.objects.create(username="nobody"))
    assert nobody.get(path(board)).status_code == nobody.get("/boards/").status_code == 403


@pytest.mark.parametrize("action", ["settings", "view", "title", "order", "remove", "publish", "revoke", "delete"])
def test_only_its_owner_changes_it(bob, board, action):
    board.is_shared = True
    board.save()

    response = do(bob[1], board, action, name="Mine", chart=["0", "1"])

    assert response.status_code == 403
    assert list(Board.objects.values_list("name", "link_digest")) == [("Sales", None)]
    assert titles(board) == ["Chart 0", "Chart 1"]


def test_one_that_is_deleted_meanwhile_is_not_found(ann, board, monkeypatch):
    real = BoardPage.find

    def find(self, **options):
        found = real(self, **options)
        Board.objects.filter(pk=found.pk).delete()
        return found

    monkeypatch.setattr(BoardPage, "find", find)
    ann[1].raise_request_exception = False
    responses = [
        do(ann[1], board, "remove", chart="0"),
        ann[1].post("/boards/add", {"key": board.key, "state": STATE}),
    ]

    assert [response.status_code for response in responses] == [404, 404]
    assert all("There is no such board." in response.text for response in responses)


def test_it_is_changed(ann, board):
    _, browser = ann

    assert do(browser, board, "settings", name="Turnover", is_shared="on")["Location"] == f"{path(board)}?edit=1"
    assert do(browser, board, "title", chart="1", title=" Visits ").status_code == 302
    assert do(browser, board, "order", chart=["1", "0"]).status_code == 204
    assert titles(board) == ["Visits", "Chart 0"]
    changed = do(browser, board, "order", chart=["1"])
    assert (changed.status_code, changed.json()) == (409, {"detail": "The board was changed meanwhile: load it again."})
    assert do(browser, board, "view", view="range=30d&timezone=Europe/Berlin&refresh=10&type=sum").status_code == 204
    wrong = do(browser, board, "view", view="range=30d&timezone=Nowhere")
    assert (wrong.status_code, wrong.json()) == (400, {"view": ["“Nowhere” is not accepted as timezone."]})
    assert do(browser, board, "remove", chart="0").status_code == 302
    assert titles(board) == ["Visits"]
    assert (board.name, board.is_shared, board.view) == (
        "Turnover",
        True,
        "range=30d&timezone=Europe%2FBerlin&refresh=10",
    )
    assert do(browser, board, "settings", name="").status_code == 400
    assert do(browser, board, "explode").status_code == 404
    assert do(browser, board, "delete")["Location"] == "/boards/"
    assert not Board.objects.exists()


def test_a_duplicate_belongs_to_who_makes_it(ann, bob, board):
    board.is_shared = True
    board.save()
    do(ann[1], board, "publish")

    response = do(bob[1], board, "duplicate")

    copy = Board.objects.get(owner=bob[0])
    assert response["Location"] == path(copy)
    assert (copy.name, copy.is_shared, copy.is_public, copy.charts) == ("Copy of Sales", False, False, board.charts)


def test_it_is_exported_and_imported(ann, bob, board):
    exported = ann[1].get(path(board, "export"))
    imported = bob[1].post("/boards/", {"file": SimpleUploadedFile("Sales.json", exported.content)})

    assert (exported["Content-Type"], exported["Content-Disposition"]) == (
        "application/json", 'attachment; filename="Sales.json"'
    )  # fmt: skip
    assert exported.json() == {
        "format": "Tracking API board", "version": 1, "name": "Sales", "view": "range=7d&timezone=UTC",
        "charts": [{"title": "Chart 0", "state": STATE}, {"title": "Chart 1", "state": OTHER}],
    }  # fmt: skip
    copy = Board.objects.get(owner=bob[0])
    assert (imported["Location"], document_of(copy)) == (path(copy), exported.content.decode())
    assert copy.key != board.key


def wrong(**fields):
    return json.dumps({**json.loads(document_of(demo_board())), **fields}).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "The file is no JSON."),
        (b"\xff", "The file is no JSON."),
        (b"[" * 20_000, "The file is no JSON."),
        (b"[]", "The file is no board: non_field_errors: Invalid data. Expected a dictionary, but got list."),
        (b"{}", "The file is no board: format: This field is required. version: This field is required. name: This field is required. charts: This field is required."),
        (wrong(charts=[{"title": "", "state": "series=a/b\ud800"}]), "The file is no board: charts: 0: state: Surrogate characters are not allowed: U+D800."),
        (wrong(name="\ud800"), "The file is no board: name: Surrogate characters are not allowed: U+D800."),
        (wrong(format="\ud800"), "The file is no board: format: &quot;\\ud800&quot; is not a valid choice."),
        (wrong(view="\ud800"), "The file is no board: view: Surrogate characters are not allowed: U+D800."),
    ],
)  # fmt: skip
def test_a_file_that_is_no_board_is_refused(ann, content, said):
    response = ann[1].post("/boards/", {"file": SimpleUploadedFile("a.json", content)})

    assert response.status_code == 400
    assert f'role="alert">{said}</p>' in response.content.decode()


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"version": 2}, {"version": ['"2" is not a valid choice.']}),
        ({"owner": 1}, {"owner": ["Unknown field. Accepted: format, version, name, view, charts."]}),
        ({"view": "range=2d"}, {"view": ["“2d” is not accepted as range."]}),
        (
            {"charts": [{"title": "", "state": "series=a"}]},
            {"charts": {"0": {"state": ["“a” is not accepted as series."]}}},
        ),
        (
            {
                "charts": [
                    {"state": f"{STATE}&formula=rate = A / C"},
                    {"state": "series=a/b&type=p99.9"},
                    {"state": "series=a/b&type=p101"},
                    {"state": "series=a/b&formula=alert(1)"},
                ]
            },
            {
                "charts": {
                    "2": {"state": ["“p101” is not accepted as type."]},
                    "3": {"state": ["“alert(1)” is not accepted as formula."]},
                }
            },
        ),
        ({"charts": [{"state": STATE}] * 25}, {"charts": ["Ensure this field has no more than 24 elements."]}),
    ],
)
def test_each_wrong_field_of_a_document_is_named(fields, errors):
    serializer = BoardSerializer(data={**json.loads(document_of(demo_board())), **fields})

    assert not serializer.is_valid()
    assert json.loads(json.dumps(serializer.errors)) == errors


def test_the_demo_board_is_one(db, make_event):
    board = demo_board()
    board.save()

    assert len(board.charts) == 9
    assert sum(chart["state"].count("series=") + ("compare=1" in chart["state"]) for chart in board.charts) <= 20
    assert len(series_of(board)) == 8


def test_boards_and_charts_have_a_limit(ann, board, monkeypatch):
    monkeypatch.setattr("events.boards.pages.MOST_BOARDS", 1)
    monkeypatch.setattr("events.boards.pages.MOST_CHARTS", 2)

    assert do(ann[1], board, "duplicate").status_code == 403
    full = ann[1].post("/boards/add", {"key": board.key, "title": "", "state": STATE})
    assert (full.status_code, b"A board has 2 charts at most." in full.content) == (400, True)


# The public link.


def publish(browser, board):
    page = do(browser, board, "publish").content.decode()
    return page.partition('id="link" value="http://testserver')[2].partition('"')[0]


def ask(link, *names, namespace="Shop"):
    token = link.split("/")[-2]
    questions = [
        {"namespace": namespace, "name": name, "aggregationType": "count", "granularity": "year"} for name in names
    ]
    return APIClient().post(f"/api/boards/{token}/query", {"questions": questions}, format="json")


def test_a_link_shows_the_board_and_only_its_series(ann, board, make_event, partition_count):
    for name in ("order", "visit", "secret"):
        make_event("Shop", name)
    roll_up_all()
    link = publish(ann[1], board)
    token = link.split("/")[-2]

    page = Client().get(link)
    answer = ask(link, "order", "secret", "visit")

    assert page.status_code == 200
    assert not page.cookies
    assert "Cookie" not in page.get("Vary", "")
    assert (page["Referrer-Policy"], page["Cache-Control"], page["X-Frame-Options"]) == (
        "no-referrer",
        "no-store",
        "DENY",
    )
    assert "frame-ancestors 'none'" in page["Content-Security-Policy"]
    assert "script-src 'self'" in page["Content-Security-Policy"]
    assert b"csrfmiddlewaretoken" not in page.content
    assert b"<form method" not in page.content
    item = {"status": 200, "body": [{"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 1}]}
    refused = {"status": 403, "body": {"detail": "The board doesn't show this series."}}
    assert (answer.status_code, answer.json()) == (200, {"answers": [item, refused, item]})
    assert not answer.cookies
    board.refresh_from_db()
    assert board.link_digest == digest_of(token)
    assert token not in str(list(Board.objects.values()))
    # nor is one set in the place of one that is broken, as another service of the same host may have set it
    broken = Client()
    broken.cookies["csrftoken"] = "of another"
    for response in (broken.get(link), broken.post(f"/api/boards/{token}/query"), broken.get("/boards/public/x/")):
        assert (response.cookies, "Cookie" in response.get("Vary", "")) == ({}, False), response
    # it opens nothing else
    assert APIClient().get("/api/events/Shop/order", headers={"Authorization": f"Bearer {token}"}).status_code == 401
    assert ask(link, "order", namespace="Nowhere").json()["answers"][0]["status"] == 403


def test_a_link_is_revoked(ann, board):
    first = publish(ann[1], board)
    second = publish(ann[1], board)

    assert Client().get(first).status_code == ask(first, "order").status_code == 404
    assert ask(first, "order").json() == {"detail": "Not found."}
    assert Client().get(second).status_code == 200
    assert do(ann[1], board, "revoke").status_code == 302
    assert Client().get(second).status_code == ask(second, "order").status_code == 404
    assert Client().get("/boards/public/%F0%9F%97%91/").status_code == 404


def test_publishing_needs_a_permission(bob):
    board = Board.objects.create(owner=bob[0], name="Mine")

    response = do(bob[1], board, "publish")

    assert response.status_code == 403
    assert b"Make a public link" not in bob[1].get(path(board)).content
    board.refresh_from_db()
    assert not board.is_public


def test_what_a_link_shows_needs_the_permission_too(bob, make_user):
    board = Board.objects.create(owner=bob[0], name="Mine", charts=[{"id": "0", "title": "", "state": STATE}])
    _, admin = make_user("eve", "change_board", "publish_board")
    _, keeper = make_user("kim", "change_board")
    link = publish(admin, board)

    for browser in (bob[1], keeper):
        refused = browser.post("/boards/add", {"key": board.key, "title": "", "state": OTHER})
        assert refused.status_code == 403
        said = "This board is public; only users with the permission “Can make a board public by a link” add to it."
        assert said in refused.text
        assert f'value="{board.key}"' not in browser.get(f"/boards/add?{OTHER}").text
    assert [each["status"] for each in ask(link, "visit").json()["answers"]] == [403]
    # but it is still theirs to lead, and to show less
    assert do(bob[1], board, "title", chart="0", title="Orders").status_code == 302
    assert titles(board) == ["Orders"]
    added = admin.post("/boards/add", {"key": board.key, "title": "Visits", "state": OTHER})
    assert (added.status_code, titles(board)) == (302, ["Orders", "Visits"])
    assert do(bob[1], board, "revoke").status_code == 302
    assert bob[1].post("/boards/add", {"key": board.key, "title": "Posts", "state": OTHER}).status_code == 302
    assert titles(board) == ["Orders", "Visits", "Posts"]


def test_a_link_has_a_limit_of_its_own(ann, board, settings, clock):
    settings.RATE_LIMIT_BOARD_LINKS = 5
    link, other = publish(ann[1], board), Board.objects.create(name="Other", owner=ann[0])

    assert ask(link, "order", "visit", "order").status_code == 200
    limited = ask(link, "order", "visit", "order")
    assert (limited.status_code, limited["Retry-After"]) == (429, "61")
    assert limited.json() == {"detail": "More than 5 questions a minute of this link; try again in 61 s."}
    assert ask(link, "order", "visit").status_code == 200
    page = Client().get(link)
    assert (page.status_code, page["Retry-After"]) == (429, "61")
    assert Client().get(publish(ann[1], other)).status_code == 200
    settings.RATE_LIMIT_BOARD_LINKS = 0
    assert ask(link, *["order"] * 20).status_code == 200


def test_pages_that_are_named_may_embed_it(ann, board, settings):
    settings.BOARD_FRAME_ANCESTORS = ["https://intranet.example", "https://wiki.example"]

    public, own = Client().get(publish(ann[1], board)), ann[1].get(path(board))

    assert "frame-ancestors https://intranet.example https://wiki.example" in public["Content-Security-Policy"]
    assert "X-Frame-Options" not in public
    assert "frame-ancestors 'none'" in own["Content-Security-Policy"]
    assert own["X-Frame-Options"] == "DENY"


def test_names_are_no_markup(ann, make_event):
    name = "</script><b>x"
    Board.objects.create(
        owner=ann[0],
        name=name,
        is_shared=True,
        charts=[{"id": "a", "title": name, "state": f"series={quote('a/b', '')}"}],
    )

    page = ann[1].get(path(Board.objects.get())).content.decode()

    assert name not in page
    assert "&lt;/script&gt;&lt;b&gt;x" in page


def test_a_board_outlives_its_owner_and_moves_to_another_database(ann, board, tmp_path):
    from events.tests.support.commands import run

    link = publish(ann[1], board)
    file = tmp_path / "access"
    run("export_access", file)
    before = Board.objects.values("key", "name", "view", "charts", "link_digest").get()
    ann[0].delete()
    board.refresh_from_db()
    assert board.owner is None
    Board.objects.all().delete()

    assert run("import_access", file)[0].startswith("Added ")
    assert run("import_access", file)[0].startswith("Added 0 rows, replaced 0")

    assert Board.objects.values("key", "name", "view", "charts", "link_digest").get() == before
    assert Board.objects.get().owner.username == "ann"
    assert Client().get(link).status_code == 200


def test_a_board_is_one_query_for_its_units(ann, board, django_assert_num_queries):
    link = publish(ann[1], board)

    with django_assert_num_queries(2):
        Client().get(link)
