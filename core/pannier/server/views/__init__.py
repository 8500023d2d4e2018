"""From the engine's value types to the API's JSON, as the specification has it."""
