"""The admin page of OAuth2 applications: the toolkit's, and what each client is granted."""

from oauth2_provider.admin import ApplicationAdmin

from events.grant_admin import GrantInline


class ClientAdmin(ApplicationAdmin):
    """The toolkit's page with the client's grant below."""

    inlines = [GrantInline]
