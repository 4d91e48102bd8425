"""A worker of sticky-run in plain Python, written from sticky-run-channel(7)."""

import os
import socket
import sys
import threading

HEAD_LIMIT = 65536


def answer(connection, text, channel):
    """Answers one request and closes: then the supervisor hears of it."""
    with connection:
        try:
            connection.settimeout(30)
            head = b""
            while b"\r\n\r\n" not in head and len(head) < HEAD_LIMIT:
                part = connection.recv(4096)
                if not part:
                    break
                head += part
            length = f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
            connection.sendall(f"HTTP/1.1 200 OK\r\n{length}{text}".encode())
        except OSError as error:
            print(f"worker.py: a client went away: {error}", file=sys.stderr)
    channel.send(b"CLOSED 1\n")


def main():
    if "STICKY_CHANNEL" not in os.environ:
        sys.exit("worker.py: not under sticky-run: start it with `sticky-run -- python3 worker.py`")
    number = int(os.environ["STICKY_CHANNEL"])
    try:
        inode = os.fstat(number).st_ino
    except OSError:
        inode = None
    if str(inode) != os.environ.get("STICKY_CHANNEL_INODE"):
        sys.exit("worker.py: the channel belongs to a parent process: start it by sticky-run itself")
    os.set_inheritable(number, False)
    channel = socket.socket(fileno=number)
    name = f"worker {os.environ['STICKY_WORKER_ID']} (pid {os.getpid()})"
    channel.send(b"READY\n")
    requests = 0
    while True:
        os.close(os.dup(number))  # Ends here at the limit of descriptors, with the message unread.
        message, fds, _, _ = socket.recv_fds(channel, 1024, 1)
        verb, *fields = message.decode("ascii").split() or [""]
        if verb == "":
            return  # End of file: the supervisor is gone.
        if verb == "PING":
            channel.send(b"PONG\n")
        if verb == "CONN" and fds:
            requests += 1
            client = dict(field.split("=", 1) for field in fields if "=" in field).get("client", "a Unix socket")
            text = f"{name}, you are {client}, request {requests}\n"
            threading.Thread(target=answer, args=(socket.socket(fileno=fds[0]), text, channel), daemon=True).start()


main()
