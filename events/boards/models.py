"""Owns the table of boards: named, ordered sets of charts, with one range and zone over all."""

from __future__ import annotations

import hashlib
import secrets
from typing import TypedDict

from django.contrib.auth.models import AnonymousUser, User
from django.db import models
from django.db.models import Q
from typing_extensions import override

CHANGE_BOARD, PUBLISH_BOARD = "events.change_board", "events.publish_board"
MOST_NAME_CHARACTERS = 100
_LINK_BYTES = 32


class StoredChart(TypedDict):
    """A chart of a board: how forms know it, its title, and its state as links to a chart have it."""

    id: str
    title: str
    state: str


def new_key() -> str:
    """Make the key by which a board is known in its address, in any database."""
    return secrets.token_urlsafe(12)


def digest_of(token: str) -> str:
    """Return the digest under which the token of a public link is stored."""
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


class BoardQuerySet(models.QuerySet["Board"]):
    """Boards chosen by who asks for them."""

    def seen_by(self, user: User | AnonymousUser) -> BoardQuerySet:
        """Choose a user's own boards and those that are shared; all for a user who may change every board."""
        return self if user.has_perm(CHANGE_BOARD) else self.filter(Q(owner_id=user.pk) | Q(is_shared=True))

    def with_link(self, token: str) -> BoardQuerySet:
        """Choose the board whose public link has a token, if there is any."""
        return self.filter(link_digest=digest_of(token))


class Board(models.Model):
    """A named, ordered set of charts, which belongs to a user."""

    key = models.CharField(max_length=22, unique=True, default=new_key, editable=False)
    name = models.CharField(max_length=MOST_NAME_CHARACTERS)
    owner = models.ForeignKey("auth.User", null=True, blank=True, on_delete=models.SET_NULL, related_name="boards")
    is_shared = models.BooleanField(default=False, help_text="Whether all users who may view events see it.")
    view = models.CharField(blank=True, max_length=500, help_text="Range, zone and refresh, as links to a chart.")
    charts = models.JSONField(default=list, blank=True)
    link_digest = models.CharField(
        max_length=64, null=True, blank=True, unique=True, editable=False, help_text="SHA-256 of the link's token."
    )  # fmt: skip

    objects = BoardQuerySet.as_manager()
    moved_by = ("key",)

    class Meta:
        default_permissions = ("change",)
        permissions = [("publish_board", "Can make a board public by a link")]

    @override
    def __str__(self) -> str:
        return self.name

    @property
    def is_public(self) -> bool:
        """Tell whether a public link leads to the board."""
        return self.link_digest is not None

    def may_be_changed_by(self, user: User | AnonymousUser) -> bool:
        """Tell whether a user may change the board: its owner, and who may change every board."""
        return (self.owner_id is not None and self.owner_id == user.pk) or user.has_perm(CHANGE_BOARD)

    def may_get_charts_of(self, user: User | AnonymousUser) -> bool:
        """Tell whether a user may put charts on the board, which on a public one shows their series to everybody."""
        return self.may_be_changed_by(user) and (not self.is_public or user.has_perm(PUBLISH_BOARD))

    def publish(self) -> str:
        """Make a public link in the place of one there was, and return its token, which isn't stored."""
        token = secrets.token_urlsafe(_LINK_BYTES)
        self.link_digest = digest_of(token)
        self.save(update_fields=["link_digest"])
        return token

    def revoke(self) -> None:
        """Let the public link lead nowhere from now on."""
        self.link_digest = None
        self.save(update_fields=["link_digest"])
