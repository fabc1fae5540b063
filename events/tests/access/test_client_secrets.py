"""How clients' secrets are kept, which are refused, and what it costs to hold one against what is stored."""

import hashlib
import time
import uuid

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher, check_password, identify_hasher, make_password
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from oauth2_provider.generators import generate_client_secret
from oauth2_provider.models import Application

from events.access.oauth2.client_secrets import is_strong
from events.tests.support.clients import fetch_token

STRONG = hashlib.sha512(b"as random as any, and the same in all processes").hexdigest()
WEAK_SAID = "Take a random secret of 32 or more characters, such as the one that is made for you."
UNHASHED_SAID = "Secrets are stored as digests only; leave this checked."
FAST, SLOW = "client_secret_sha256", "pbkdf2_sha256"
FIELDS = {
    "name": "Till",
    "client_id": "till",
    "client_type": "confidential",
    "authorization_grant_type": "client-credentials",
}


@pytest.fixture(autouse=True)
def as_served(settings):
    """Hashers as the service has them."""
    settings.PASSWORD_HASHERS = [
        "events.tests.access.test_client_secrets.FewRounds",
        "events.access.oauth2.client_secrets.ClientSecretHasher",
    ]


class FewRounds(PBKDF2PasswordHasher):
    iterations = 10


@pytest.fixture
def make_client(db):
    def make(secret, stored=None, **fields):
        application = Application.objects.create(client_secret=secret, **{**FIELDS, **fields})
        if stored is not None:
            Application.objects.filter(pk=application.pk).update(client_secret=stored)
        return application

    return make


def token_status(secret):
    return fetch_token(client_id="till", client_secret=secret).status_code


def stored():
    return Application.objects.values_list("client_secret", flat=True).get()


def algorithm():
    return identify_hasher(stored()).algorithm


def test_a_made_secret_is_kept_as_a_salted_digest(make_client):
    make_client(STRONG)

    name, salt, digest = stored().split("$")
    assert (name, len(salt), len(digest)) == (FAST, 22, 64)
    assert STRONG not in stored()
    assert check_password(STRONG, stored())
    assert not check_password(STRONG[:-1], stored())
    assert make_password(STRONG, hasher=FAST) != stored()  # another salt
    assert (token_status(STRONG), token_status(STRONG[:-1]), token_status(stored())) == (200, 401, 401)


def test_it_costs_no_more_than_some_microseconds(make_client):
    make_client(STRONG)
    encoded = stored()

    start = time.process_time()
    for _ in range(1000):
        assert check_password(STRONG, encoded)

    assert time.process_time() - start < 1  # PBKDF2's million rounds take 200 and more


def test_a_slow_hash_goes_on_working_and_is_renewed_when_used(make_client):
    make_client(STRONG, stored=make_password(STRONG, hasher=SLOW))
    assert (token_status(STRONG[:-1]), algorithm()) == (401, SLOW)

    assert (token_status(STRONG), algorithm()) == (200, FAST)

    renewed = stored()
    assert (token_status(STRONG), stored()) == (200, renewed)  # once
    assert token_status(STRONG[:-1]) == 401


def test_a_weak_secret_of_old_keeps_the_slow_hash(make_client):
    make_client("shop-secret")

    assert (token_status("shop-secret"), algorithm()) == (200, SLOW)
    assert token_status("shop-secre") == 401


def test_a_weak_secret_is_renewed_to_as_many_rounds_as_passwords_have_today(make_client, monkeypatch):
    make_client("shop-secret")
    before = stored()
    monkeypatch.setattr(FewRounds, "iterations", 20)

    assert token_status("shop-secret") == 200

    assert (before.split("$")[1], stored().split("$")[1], algorithm()) == ("10", "20", SLOW)


@pytest.mark.parametrize(("secret", "expected"), [(STRONG, FAST), ("shop-secret", SLOW)])
def test_a_secret_that_was_stored_as_it_is_becomes_a_digest_when_used(make_client, secret, expected):
    make_client(STRONG, stored=secret, hash_client_secret=False)
    assert token_status(secret + "x") == 401
    assert stored() == secret

    assert (token_status(secret), algorithm()) == (200, expected)
    assert Application.objects.get().hash_client_secret
    assert token_status(secret) == 200


def test_what_was_changed_meanwhile_is_not_renewed(make_client, monkeypatch):
    """The renewal goes by what was compared."""
    make_client(STRONG, stored=make_password(STRONG, hasher=SLOW))
    check = check_password

    def changed_meanwhile(*arguments, **options):
        Application.objects.update(client_secret="changed")
        return check(*arguments, **options)

    monkeypatch.setattr("events.access.oauth2.server.check_password", changed_meanwhile)

    token_status(STRONG)

    assert stored() == "changed"


@pytest.mark.parametrize("secret", ["", STRONG])
def test_nobody_is_known_by_no_secret(make_client, secret):
    make_client(secret, client_type="public")

    assert token_status("") == 401


@pytest.mark.parametrize(
    ("secret", "strong"),
    [
        (STRONG, True),
        (uuid.UUID(int=0x0123456789ABCDEF0F1E2D3C4B5A6978).hex, True),
        (STRONG[:32], True),
        (STRONG[:31], False),
        ("secret", False),
        ("a" * 128, False),
        ("ab1" * 40, False),
        ("abcdefgh" * 4, False),
        ("correcthorse" * 3, False),
        ("0123456" * 5 + "1", False),
        ("", False),
    ],
)
def test_a_strong_secret_is_long_and_varied(secret, strong):
    assert is_strong(secret) is strong


def test_what_the_service_makes_is_strong():
    assert all(is_strong(generate_client_secret()) for _ in range(1000))
    assert all(is_strong(uuid.uuid4().hex) for _ in range(1000))


@pytest.fixture
def user(db):
    return User.objects.create_superuser("ada")


@pytest.mark.parametrize("page", ["/admin/oauth2_provider/application/add/"])
@pytest.mark.parametrize(
    ("changed", "field", "said"),
    [
        ({"client_secret": "shop-secret"}, "client_secret", WEAK_SAID),
        ({"client_secret": "a" * 128}, "client_secret", WEAK_SAID),
        ({"hash_client_secret": ""}, "hash_client_secret", UNHASHED_SAID),
    ],
)
def test_weak_and_unhashed_secrets_are_refused(client, user, page, changed, field, said):
    client.force_login(user)
    fields = {**FIELDS, "client_secret": STRONG, "hash_client_secret": "on", **INLINE, **changed}

    response = client.post(page, fields)

    assert response.status_code == 200
    assert response.context["adminform"].form.errors == {field: [said]}
    assert not Application.objects.exists()

    assert client.post(page, {**fields, "client_secret": STRONG, "hash_client_secret": "on"}).status_code == 302
    assert algorithm() == FAST


INLINE = {
    f"{inline}-{name}_FORMS": value
    for inline in ("client_grant", "accesstoken_set")
    for name, value in (("TOTAL", 0), ("INITIAL", 0), ("MAX_NUM", 1))
}


def test_a_secret_may_be_changed_for_another(client, user, make_client):
    client.force_login(user)
    application = make_client(STRONG, user=user)

    other = client.post(f"/o/applications/{application.pk}/secret/").context["secret"]

    assert is_strong(other)
    assert (token_status(STRONG), token_status(other), algorithm()) == (401, 200, FAST)


def test_code_that_validates_a_client_learns_it_too(db):
    with pytest.raises(ValidationError) as error:
        Application(**FIELDS, client_secret="x", hash_client_secret=False).full_clean()

    assert error.value.message_dict == {"client_secret": [WEAK_SAID], "hash_client_secret": [UNHASHED_SAID]}


def test_a_users_password_never_gets_the_fast_digest(user, client):
    user.set_password(STRONG)
    user.save()

    assert identify_hasher(user.password).algorithm == SLOW
    assert client.login(username="ada", password=STRONG)


def test_the_admin_shows_no_more_than_the_beginnings_of_a_digest(make_client):
    make_client(STRONG)
    _, salt, digest = stored().split("$")

    summary = identify_hasher(stored()).safe_summary(stored())

    assert summary == {
        "algorithm": FAST,
        "salt": salt[:6] + "*" * (len(salt) - 6),
        "hash": digest[:6] + "*" * (len(digest) - 6),
    }
