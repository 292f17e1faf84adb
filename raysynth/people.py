"""Invented people: pools of names, streets and cities, made by Faker once they are asked for."""

FORMS = (
    *("first_name", "last_name", "name", "email", "phone", "street", "city", "postcode"),
    *("ssn", "card", "ipv4", "ipv6"),
)
