"""A listener in another language: prints each payload as it comes, a line each.

Usage: listen.py CONNINFO CHANNEL END. Says "listening" once it does, and ends at the payload END.
"""

import sys

import psycopg


def main(conninfo: str, channel: str, end: str) -> None:
    # Outside a transaction, or nothing would arrive before its end.
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(channel)))
        print("listening", flush=True)
        for notification in connection.notifies():
            if notification.payload == end:
                return
            print(notification.payload, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
