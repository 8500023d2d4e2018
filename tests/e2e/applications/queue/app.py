"""Books the orders of a queue in Redis in PostgreSQL."""

from __future__ import annotations

import os
from pathlib import Path

import psycopg2
import redis


def main() -> None:
    """Book one after another, for ever."""
    with redis.Redis("redis") as queue:
        queue.ping()
        Path("/tmp/ready").touch()
        while True:
            _, number = queue.blpop(["orders"])
            with psycopg2.connect(os.environ["DATABASE"]) as database, database.cursor() as cursor:
                cursor.execute("INSERT INTO orders VALUES (%s)", (int(number),))
            print(f"booked {int(number)}")


if __name__ == "__main__":
    main()
