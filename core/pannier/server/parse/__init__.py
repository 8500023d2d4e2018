"""From the API's JSON and queries to the engine's value types; everything is validated here."""
