"""Deliveries: to a webhook and by e-mail, signed, repeated, and nowhere that they may not go."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
from contextlib import suppress
from datetime import timedelta
from email import message_from_bytes
from functools import partial
from ipaddress import ip_address
from time import sleep

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import OperationalError

from events.alerts import addresses, emails, messages, sender, webhooks
from events.alerts.models import Alert, AlertTarget, Delivery, Firing
from events.alerts.runner import forget_old
from events.alerts.webhooks import Outcome
from events.tests.alerts import mail_server
from events.tests.alerts.conftest import NOON
from events.tests.alerts.receiver import make_certificate, receiving

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


@pytest.fixture(scope="module")
def receiver():
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def hook(receiver, settings):
    """The receiver, which may be reached, as it was at its beginning."""
    settings.ALERT_PRIVATE_TARGETS = True
    receiver.answers.clear()
    receiver.came.clear()
    receiver.url = f"http://127.0.0.1:{receiver.port}/hook?a=b"
    return receiver


@pytest.fixture
def make_delivery(make_target, make_alert):
    def make(url="http://127.0.0.1:1/", event="firing", count=1, secret=SECRET, **fields):
        target = make_target(url=url, secret=secret, **fields)
        alert = make_alert(target, name="CPU", description="call Eve <eve@example.org>")
        firings = [
            Firing(alert=alert, namespace="Server-1", name=f"cpu{number or ''}", pending_since=NOON, fired_at=NOON, value=95.5)
            for number in range(count)
        ]  # fmt: skip
        made = messages.deliveries(alert, event, firings, NOON)[0]
        made.save()
        return made

    return make


def attempts(delivery):
    delivery.refresh_from_db()
    return (
        delivery.status,
        delivery.attempts,
        delivery.outcome,
        delivery.next_attempt_at and delivery.next_attempt_at - NOON,
    )


def test_a_webhook_gets_a_signed_body(hook, make_delivery, settings):
    settings.SERVICE_URL = "https://tracking.example"
    delivery = make_delivery(hook.url)

    assert sender.send_waiting() == 1

    assert attempts(delivery) == ("delivered", 1, "Answered 200.", None)
    [(path, headers, body)] = hook.came
    assert path == "/hook?a=b"
    assert headers["Host"] == f"127.0.0.1:{hook.port}"
    assert headers["webhook-id"] == str(delivery.pk)
    assert headers["webhook-timestamp"] == str(int(NOON.timestamp()))
    signed = hmac.new(b"k" * 32, f"{delivery.pk}.{int(NOON.timestamp())}.".encode() + body, hashlib.sha256)
    assert headers["webhook-signature"] == f"v1,{base64.b64encode(signed.digest()).decode()}"
    alert = Alert.objects.get()
    assert json.loads(body) == {
        "id": str(delivery.pk),
        "event": "firing",
        "alert": {
            "id": alert.pk, "name": "CPU", "severity": "warning", "condition": "Server-1/cpu: avg over 1 min above 90",
            "description": "call Eve <eve@example.org>", "url": f"https://tracking.example/alerts/{alert.pk}",
        },
        "createdAt": "2026-11-28T12:00:00Z",
        "count": 1,
        "series": [{
            "namespace": "Server-1", "name": "cpu", "value": 95.5, "firedAt": "2026-11-28T12:00:00Z",
            "resolvedAt": None, "resolvedValue": None, "revision": "",
            "chart": "https://tracking.example/chart?series=Server-1%2Fcpu",
        }],
    }  # fmt: skip


def test_bodies_for_other_receivers(make_delivery):
    slack = json.loads(make_delivery(name="slack", body_format="slack", count=22).body)
    Alert.objects.all().delete()
    mattermost = json.loads(make_delivery(name="mattermost", body_format="mattermost").body)
    Alert.objects.all().delete()
    alertmanager = json.loads(make_delivery(name="alertmanager", body_format="alertmanager", count=101).body)

    lines = slack["text"].split("\n")
    assert lines[:4] == [
        "*firing* `[warning] CPU fires for 22 series`",
        "`Server-1/cpu: avg over 1 min above 90`",
        "`call Eve &lt;eve@example.org&gt;`",
        "• `Server-1/cpu, 95.5, since 2026-11-28T12:00:00Z`",
    ]
    assert (len(lines), lines[-1]) == (3 + 21, "• `and 2 more`")
    assert mattermost["text"].startswith("**firing** `[warning] CPU fires for Server-1/cpu`\n")
    assert (alertmanager["version"], alertmanager["status"], alertmanager["truncatedAlerts"]) == ("4", "firing", 1)
    assert len(alertmanager["alerts"]) == 100
    assert alertmanager["alerts"][1]["labels"] == {
        "alertname": "CPU", "severity": "warning", "namespace": "Server-1", "name": "cpu1",
    }  # fmt: skip
    assert alertmanager["alerts"][1]["startsAt"] == "2026-11-28T12:00:00Z"
    assert alertmanager["alerts"][1]["endsAt"] == "0001-01-01T00:00:00Z"


def test_a_delivery_that_fails_is_repeated_with_the_same_id_and_body(hook, make_delivery, time):
    hook.answers += [(500,), (429, ("Retry-After", "120")), (302, ("Location", "/elsewhere"))]
    delivery = make_delivery(hook.url)
    found = []
    for wait in (0, 9, 1, 119, 1, 60):
        time.forward(seconds=wait)
        sender.send_waiting()
        found.append(attempts(delivery))

    seconds = [10, 10, 130, 130, 190, None]
    assert [each[3] for each in found] == [None if each is None else timedelta(seconds=each) for each in seconds]
    assert [each[:3] for each in found] == [
        ("waiting", 1, "Answered 500."), ("waiting", 1, "Answered 500."), ("waiting", 2, "Answered 429."),
        ("waiting", 2, "Answered 429."), ("waiting", 3, "Answered 302."), ("delivered", 4, "Answered 200."),
    ]  # fmt: skip
    assert len({(path, headers["webhook-id"], body) for path, headers, body in hook.came}) == 1
    assert len({headers["webhook-signature"] for _, headers, _ in hook.came}) == 4  # each has its time


def test_it_is_given_up_at_last_and_may_be_sent_again(make_delivery, time, settings):
    settings.ALERT_PRIVATE_TARGETS = True
    delivery = make_delivery("http://127.0.0.1:1/")
    for wait in (timedelta(), *sender.BACK_OFF):
        time.now += wait
        sender.send_waiting()

    assert attempts(delivery) == ("failed", 11, "No connection.", None)
    assert sender.send_again(delivery, time.now)
    assert not sender.send_again(delivery, time.now)
    assert attempts(delivery)[:2] == ("waiting", 0)
    time.forward(days=89)
    assert forget_old(time.now) == 0
    Delivery.objects.update(status="failed")
    assert forget_old(time.forward(days=1)) == 1


def test_a_worker_killed_while_it_sends_repeats_it_with_the_same_id(hook, make_delivery, time, monkeypatch):
    delivery = make_delivery(hook.url)

    def killed(*arguments):
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(sender, "_note", killed)  # it was sent, and nobody could note so
        with pytest.raises(SystemExit):
            sender.send_waiting()
    assert sender.send_waiting() == 0  # not while the other may still be at it
    time.forward(seconds=91)
    assert sender.send_waiting() == 1

    assert attempts(delivery)[:2] == ("delivered", 2)
    assert {headers["webhook-id"] for _, headers, _ in hook.came} == {str(delivery.pk)}
    assert len(hook.came) == 2


def test_e_mail(make_delivery, settings):
    delivery = make_delivery(url="", kind="email", addresses="a@example.org\nb@example.org\n")
    sender.send_waiting()
    assert attempts(delivery)[2] == "EMAIL_URL is not set."
    settings.EMAIL_HOST, settings.DEFAULT_FROM_EMAIL = "mail.example", "Alerts <alerts@example.org>"
    Delivery.objects.update(next_attempt_at=NOON)

    sender.send_waiting()

    assert attempts(delivery)[:3] == ("delivered", 2, "Given to the mail server.")
    [message] = mail.outbox
    assert message.subject == "[warning] CPU fires for Server-1/cpu"
    assert message.recipients() == ["a@example.org", "b@example.org"]
    assert message.extra_headers["Message-ID"] == f"<{delivery.pk}@example.org>"
    assert message.body == (
        "[warning] CPU fires for Server-1/cpu\n\nServer-1/cpu: avg over 1 min above 90\n\ncall Eve <eve@example.org>\n\n"
        f"Server-1/cpu, 95.5, since 2026-11-28T12:00:00Z\n\nDelivery {delivery.pk}\n"
    )
    with pytest.raises(ValidationError):
        emails.validate_addresses("a@example.org\nnobody")


def test_a_mail_server_that_fails_takes_the_same_message_later(make_delivery, settings, time):
    delivery = make_delivery(url="", kind="email", addresses="a@example.org\nb@example.org")
    settings.EMAIL_BACKEND = "events.alerts.emails.Backend"  # in place of the test runner's
    settings.EMAIL_HOST, settings.EMAIL_TIMEOUT = "127.0.0.1", 5
    found = []
    with mail_server.taking() as server:
        settings.EMAIL_PORT = server.port
        server.answers |= {"MAIL": ["451 not now"], "RCPT": ["550 nobody", "550 nobody"], "DATA": ["421 too busy"]}
        server.answers["."] = ["452 the disk is full"]
        for wait in (0, 10, 30, 60, 300):
            time.forward(seconds=wait)
            assert sender.send_waiting() == 1
            found.append(attempts(delivery)[:3])
    settings.EMAIL_PORT = 1
    away = emails.send("a@example.org", "id", "subject", "body")

    assert found == [
        ("waiting", 1, "The mail server didn't take it (SMTPSenderRefused, 451)."),
        ("waiting", 2, "The mail server didn't take it (SMTPRecipientsRefused)."),
        ("waiting", 3, "The mail server didn't take it (SMTPDataError, 421)."),
        ("waiting", 4, "The mail server didn't take it (SMTPDataError, 452)."),
        ("delivered", 5, "Given to the mail server."),
    ]
    assert away == (False, "The mail server didn't take it (ConnectionRefusedError).", None)
    [(_, refused), (recipients, message)] = server.came
    assert message_from_bytes(refused)["Message-ID"] == message_from_bytes(message)["Message-ID"]
    assert recipients == ["a@example.org", "b@example.org"]
    parsed = message_from_bytes(message)
    assert (parsed["Message-ID"], parsed["Subject"]) == (
        f"<{delivery.pk}@localhost>",
        "[warning] CPU fires for Server-1/cpu",
    )
    assert parsed.get_payload(decode=True).decode().replace("\r\n", "\n").strip() == delivery.body.strip()


def test_an_address_that_the_mail_server_refuses_is_named(settings, time):
    settings.EMAIL_BACKEND, settings.EMAIL_HOST = "events.alerts.emails.Backend", "127.0.0.1"
    with mail_server.taking() as server:
        settings.EMAIL_PORT = server.port
        server.answers["RCPT"] = ["250 fine", "550 nobody"]
        outcome = emails.send("a@example.org\nb@example.org", "id", "subject", "body")

    assert outcome == (True, "Given to the mail server, which refused b@example.org.", None)
    assert [recipients for recipients, _ in server.came] == [["a@example.org"]]


NOT_PUBLIC = [
    "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.16.0.1", "192.0.0.1", "192.0.2.1",
    "192.168.1.1", "198.18.0.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1",
    "64:ff9b::a00:1", "64:ff9b:1::1", "100::1", "2001:db8::1", "2002:7f00:1::", "2002:a00:1::1", "fc00::1", "fd00::1",
    "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2606:4700::1%lo",
    "192.0.0.192", "192.88.99.1", "168.63.129.16", "100.100.100.200", "3fff::1", "5f00::1", "100:0:0:1::1", "::ffff:0:7f00:1",
    "2001:4860::5efe:a00:1", "2001:4860::200:5efe:a00:1", "64:ff9b::c000:c0",
]  # fmt: skip
PUBLIC = [
    "1.1.1.1",
    "93.184.215.14",
    "2606:4700::1111",
    "64:ff9b::101:101",
    "::ffff:1.1.1.1",
    "2002:101:101::1",
    "2001:4860::5efe:101:101",
]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_addresses_that_a_webhook_may_not_lead_to(address):
    assert not addresses.is_public(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_addresses_that_a_webhook_may_lead_to(address):
    assert addresses.is_public(ip_address(address))


def resolving(monkeypatch, *answers):
    """Have each look-up of a name give the next addresses; tells which were asked for, and none twice."""
    asked, left, one = [], list(answers), socket.getaddrinfo

    def getaddrinfo(host, port, *arguments, **options):
        try:
            ip_address(host)
        except ValueError:
            asked.append(host)
            return [found for address in left.pop(0) for found in one(address, port, *arguments, **options)]
        return one(host, port, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{}/",
        "http://[::1]:{}/",
        "http://2130706433:{}/",
        "http://0x7f.1:{}/",
        "http://[::ffff:7f00:1]:{}/",
        "http://0:{}/",
        "http://127.1:{}/",
        "http://0177.0.0.1:{}/",
        "http://00000177.1:{}/",
        "http://LOCALHOST:{}/",
        "http://[fe80::1%lo]:{}/",
    ],
)
def test_what_is_inside_is_refused_however_it_is_written(hook, settings, url):
    settings.ALERT_PRIVATE_TARGETS = False

    outcome = webhooks.send(url.format(hook.port), "", "id", 1, b"{}")

    assert outcome == (
        False,
        "The host has an address that is not public, which ALERT_PRIVATE_TARGETS would allow.",
        None,
    )
    assert hook.came == []


def test_a_name_with_any_address_inside_is_refused(hook, settings, monkeypatch):
    settings.ALERT_PRIVATE_TARGETS = False
    resolving(monkeypatch, ["1.1.1.1", "127.0.0.1"])

    assert webhooks.send(f"http://hooks.example:{hook.port}/", "", "id", 1, b"").words.startswith(
        "The host has an address"
    )


def test_the_address_that_was_checked_is_connected_to(hook, settings, monkeypatch):
    """A name server that answers otherwise the second time isn't asked a second time."""
    settings.ALERT_PRIVATE_TARGETS = False
    asked = resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    monkeypatch.setattr(addresses, "is_public", lambda address: str(address) == "127.0.0.1")
    monkeypatch.setattr(webhooks, "is_of_this_host", lambda connected: False)
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    outcome = webhooks.send(f"http://hooks.example:{hook.port}/", "", "id", 1, b"{}")

    assert outcome == (True, "Answered 200.", None)
    assert asked == ["hooks.example"]
    assert hook.came[0][1]["Host"] == f"hooks.example:{hook.port}"


def test_an_address_of_this_host_is_inside_however_public_it_is(hook, settings, monkeypatch):
    settings.ALERT_PRIVATE_TARGETS = False
    monkeypatch.setattr(addresses, "is_public", lambda address: True)

    outcome = webhooks.send(hook.url, "", "id", 1, b"{}")

    assert outcome == (False, "The host is this one, which ALERT_PRIVATE_TARGETS would allow.", None)
    assert hook.came == []


def test_the_certificate_is_held_to_the_name_of_the_host(tmp_path, settings, monkeypatch):
    settings.ALERT_PRIVATE_TARGETS = True
    certificate = make_certificate(tmp_path / "certificate.pem", "hooks.example")
    resolving(monkeypatch, *[["127.0.0.1"]] * 3)
    with receiving(certificate) as receiver:
        send = partial(webhooks.send, secret="", delivery_id="id", timestamp=1, body=b"{}")
        unknown = send(f"https://hooks.example:{receiver.port}/")
        monkeypatch.setattr(webhooks, "_tls", partial(ssl.create_default_context, cafile=certificate))
        outcomes = [send(f"https://{host}:{receiver.port}/") for host in ("hooks.example", "other.example")]

    assert not unknown.is_delivered
    assert unknown.words.startswith("The certificate is not good: self-signed certificate")
    assert outcomes[0] == (True, "Answered 200.", None)
    assert outcomes[1].words.startswith("The certificate is not good: Hostname mismatch")
    assert len(receiver.came) == 1


def trickle(listener):
    """Answers a byte at a time, for some seconds."""
    connection, _ = listener.accept()
    with connection, suppress(OSError):
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":
            connection.sendall(bytes([byte]))
            sleep(0.1)


def test_a_receiver_that_trickles_is_cut_off(monkeypatch, settings):
    settings.ALERT_PRIVATE_TARGETS = True
    monkeypatch.setattr(webhooks, "_ALL_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        trickling = threading.Thread(target=trickle, args=(listener,))
        trickling.start()
        outcome = webhooks.send(f"http://127.0.0.1:{listener.getsockname()[1]}/", "", "id", 1, b"{}")
        trickling.join()

    assert not outcome.is_delivered
    assert outcome.words.startswith("No answer (")


@pytest.mark.parametrize(
    "url",
    ["", "ftp://a.example/", "https://", "https://user:password@a.example/", "https://a.example:0/", "https://a.example:x/",
     "https://a.example/ b", "https://a.example/\r\nHost: b", "https://ä.example/", "https://[::1/", "javascript:alert(1)",
     "https://a.example/" + "a" * 2_000],
)  # fmt: skip
def test_what_is_no_url_of_a_webhook(url):
    with pytest.raises(ValidationError):
        webhooks.validate_url(url)


def test_urls_and_secrets_are_sealed(make_target, settings):
    target = make_target(url="https://hooks.example:8443/services/T0/token", secret=SECRET)
    stored = AlertTarget.objects.values().get(pk=target.pk)

    assert stored["shown_url"] == "https://hooks.example:8443/…"
    assert not any("token" in str(value) or SECRET in str(value) for value in stored.values())
    target.refresh_from_db()
    assert (target.url, target.secret) == ("https://hooks.example:8443/services/T0/token", SECRET)
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "another"
    assert target.secret == SECRET
    settings.SECRET_KEY_FALLBACKS = []
    delivery = messages.delivery(target, Alert(name="CPU"), "test", [], NOON)
    delivery.save()
    sender.send_waiting()
    assert attempts(delivery)[2] == "Its URL or secret was sealed by another SECRET_KEY: enter it again."


def test_what_goes_wrong_with_one_is_in_no_others_way(hook, make_delivery, monkeypatch):
    odd = make_delivery(hook.url, name="odd", secret="whsec_abc…")
    Alert.objects.all().delete()
    broken = make_delivery(hook.url, name="broken")
    Alert.objects.all().delete()
    good = make_delivery(hook.url, name="good")
    send = webhooks.send

    def sent(url, secret, key, *arguments):
        if key == str(broken.pk):
            raise LookupError("a mistake of ours")
        return send(url, secret, key, *arguments)

    monkeypatch.setattr(webhooks, "send", sent)

    assert sender.send_waiting() == 3

    assert attempts(odd)[:2] == attempts(good)[:2] == ("delivered", 1)
    assert attempts(broken) == ("waiting", 1, "It can’t be sent (LookupError).", timedelta(seconds=10))
    assert len(hook.came) == 2


def make_test(target, at=NOON):
    made = messages.delivery(target, Alert(name="CPU"), "test", [], at)
    made.save()
    return made


def test_a_receiver_that_hangs_holds_up_no_other(make_target, time, monkeypatch):
    """Neither what was due already, later than much for that receiver, nor what comes while it hangs."""
    monkeypatch.setattr(sender, "_LOOK_SECONDS", 0.01)
    hanging = [make_target(f"hangs {number}", f"http://hangs.example/{number}") for number in range(4)]
    others = [make_target(name, f"http://{name}.example/") for name in "abc"]
    hung = [make_test(target) for _ in range(5) for target in hanging]
    good = [make_test(target, NOON + timedelta(microseconds=1)) for target in others for _ in range(4)]
    time.forward(seconds=1)
    came, under_way, most, done, late = [], [], [], threading.Event(), []

    def send(url, secret, key, *arguments):
        if "hangs" not in url:
            came.append(key)
            return Outcome(True, "Answered 200.")
        under_way.append(key)
        most.append(len(under_way))
        is_done = done.wait(20)
        done.set()
        under_way.remove(key)
        return Outcome(False, "No answer." if is_done else "It held up the others.")

    def is_wanted():
        if len(came) == len(good) and not late:
            late.append(make_test(others[0]))
        elif len(came) > len(good):
            done.set()
        return True

    monkeypatch.setattr(webhooks, "send", send)

    assert sender.send_waiting(is_wanted) == 20 + 12 + 1

    assert [attempts(each)[:3] for each in [*good, *late]] == [("delivered", 1, "Answered 200.")] * 13
    assert [attempts(each)[:3] for each in hung] == [("waiting", 1, "No answer.")] * 20
    assert max(most) <= 2


def test_what_was_sent_is_noted_where_the_next_can_not_be_claimed(make_target, time, monkeypatch):
    deliveries = [make_test(make_target(name)) for name in "ab"]
    claim = sender._claim

    def claim_once(sending):
        if sending:
            raise OperationalError("the database is away")
        return claim(sending)

    monkeypatch.setattr(webhooks, "send", lambda *arguments: Outcome(True, "Answered 200."))
    monkeypatch.setattr(sender, "_claim", claim_once)
    with pytest.raises(OperationalError):
        sender.send_waiting()

    assert [attempts(each)[:3] for each in deliveries] == [("delivered", 1, "Answered 200.")] * 2


def test_a_secret_is_made_as_the_standard_has_it():
    secret = webhooks.new_secret()

    assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
    # the example of the standard's own libraries
    assert (
        webhooks.signature(
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
        )
        == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    )
    assert webhooks.signature("my own", "id", 1, b"").startswith("v1,")
