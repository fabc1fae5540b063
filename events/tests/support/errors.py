"""What errors say that tests of several folders expect."""

NO_TIMESTAMP = (
    "Must be ISO 8601 text such as 2020-11-12T11:10:00Z, or a unix timestamp as a number, within the years 1 to 9999."
)
