"""python-socketio sessions against `chat`: each sends echoes and compares what comes back.

    python sessions.py '{"url": "http://127.0.0.1:3000", "sessions": 8, "rounds": 10, "transport": "polling"}'

Prints its verdict, one record a session, as one JSON object.
"""

import json
import os
import queue
import sys
import threading

import socketio

PATIENCE = 30  # s that any one answer may take on a busy machine
BIG = 150_000  # bytes of every fifth message


def session(options, record):
    client = socketio.Client(reconnection=False)
    greetings, echoes = queue.Queue(), queue.Queue()
    client.on("worker", greetings.put)
    client.on("echo", echoes.put)
    client.on("connect_error", lambda error: record["errors"].append(f"connect: {error}"))
    client.on("disconnect", lambda reason: record["disconnects"].append(str(reason)))
    try:
        client.connect(options["url"], transports=[options["transport"]], wait_timeout=PATIENCE)
        record["workers"].append(greetings.get(timeout=PATIENCE))
        for number in range(options["rounds"]):
            message = os.urandom(BIG) if number % 5 == 4 else f"message {number}"
            acknowledged = client.call("echo", message, timeout=PATIENCE)
            record["echoes"] += 1
            record["binary"] += isinstance(message, bytes)
            record["wrong"] += (acknowledged != message) + (echoes.get(timeout=PATIENCE) != message)
        record["connected"], record["transport"] = client.connected, client.transport()
    except Exception as error:  # Whatever goes wrong is part of the verdict.
        record["errors"].append(repr(error))


def main():
    options = json.loads(sys.argv[1])
    empty = {"echoes": 0, "binary": 0, "wrong": 0, "connected": False, "transport": None}
    records = [
        {**empty, "workers": [], "errors": [], "disconnects": []} for _ in range(options["sessions"])
    ]
    threads = [threading.Thread(target=session, args=(options, record)) for record in records]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"sessions": records}), flush=True)
    os._exit(0)  # The clients' own threads would go on for as long as the server does.


main()
