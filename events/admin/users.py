"""The admin's pages of users and groups: Django's, with lists as the others are."""

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User

from events.admin.lists import StrictListMixin

# importing Django's has registered them
admin.site.unregister([User, Group])


@admin.register(User)
class StrictUserAdmin(StrictListMixin, UserAdmin):
    """The pages of users."""


@admin.register(Group)
class StrictGroupAdmin(StrictListMixin, GroupAdmin):
    """The pages of groups."""
