"""A worker of sticky-run in plain Python, written from sticky-run-channel(7)."""

import os
import socket
import sys
import threading
import time


def open_channel():
    if (number := os.environ.get("STICKY_CHANNEL")) is None:
        sys.exit("worker.py: not under sticky-run: start it with `sticky-run -- python3 worker.py`")
    try:
        mine = str(os.fstat(int(number)).st_ino) == os.environ.get("STICKY_CHANNEL_INODE")
    except (OSError, ValueError):
        mine = False
    if not mine or os.environ.get("STICKY_PROTOCOL") != "1":
        sys.exit("worker.py: STICKY_CHANNEL is not a channel of this process: start it by sticky-run")
    os.set_inheritable(int(number), False)
    return socket.socket(fileno=int(number))


def receive(channel):
    while True:  # At the limit of descriptors a receive would destroy the connection: wait before it.
        try:
            os.close(os.dup(channel.fileno()))
            message, fds, _, _ = socket.recv_fds(channel, 1025, 1, socket.MSG_CMSG_CLOEXEC)
            return message.decode("ascii", "replace").split(), fds
        except ConnectionResetError:
            continue  # The supervisor left messages of ours unread; the end of file follows.
        except OSError:
            time.sleep(0.05)


def answer(connection, text, channel):
    try:
        with connection:
            connection.settimeout(30)
            head = b""
            while b"\r\n\r\n" not in head and len(head) < 65536 and (part := connection.recv(4096)):
                head += part
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n"
            connection.sendall((head + text).encode())
    except OSError as error:
        print(f"worker.py: a client went away: {error}", file=sys.stderr)
    channel.send(b"CLOSED 1\n")


channel, requests = open_channel(), 0
name = f"worker {os.environ['STICKY_WORKER_ID']} (pid {os.getpid()})"
channel.send(b"READY\n")
while (received := receive(channel))[0]:  # Nothing is the end of file: the supervisor is gone.
    (verb, *fields), fds = received
    if verb == "PING":
        channel.send(b"PONG\n")
    if verb == "CONN" and fds:
        requests += 1
        client = dict(field.partition("=")[::2] for field in fields).get("client", "a Unix socket")
        work = socket.socket(fileno=fds[0]), f"{name}, you are {client}, request {requests}\n", channel
        threading.Thread(target=answer, args=work, daemon=True).start()
