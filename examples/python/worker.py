"""A worker of sticky-run in plain Python, written from sticky-run-channel(7)."""

import os
import socket
import sys
import threading

ANSWER = "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n"


def open_channel():
    try:
        number = int(os.environ["STICKY_CHANNEL"])
        found = str(os.fstat(number).st_ino), "1"
    except (KeyError, ValueError, OSError):
        found = None
    if found != (os.environ.get("STICKY_CHANNEL_INODE"), os.environ.get("STICKY_PROTOCOL")):
        sys.exit("worker.py: not under sticky-run: start it with `sticky-run -- python3 worker.py`")
    os.set_inheritable(number, False)
    return socket.socket(fileno=number)


def receive(channel):
    while True:
        try:  # At the limit of descriptors a receive would destroy the connection: wait before it.
            os.close(os.dup(channel.fileno()))
            # Not socket.recv_fds(): it forgets flags, and programs that we start are not to have it.
            space, flags = socket.CMSG_LEN(4), socket.MSG_CMSG_CLOEXEC
            message, control, *_ = channel.recvmsg(1025, space, flags)
            fds = [int.from_bytes(data, sys.byteorder) for _, _, data in control]
            return message.decode("ascii", "replace").split(), fds
        except ConnectionResetError:
            continue  # The supervisor left messages of ours unread; the end of file follows.
        except OSError:
            threading.Event().wait(0.05)


def answer(fd, text, channel):
    try:
        with socket.socket(fileno=fd) as connection:
            connection.settimeout(30)
            head = part = connection.recv(4096)
            while part and b"\r\n\r\n" not in head and len(head) < 65536:
                head += (part := connection.recv(4096))
            connection.sendall((ANSWER.format(len(text)) + text).encode())
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
        text = f"{name}, you are {client}, request {requests}\n"
        threading.Thread(target=answer, args=(fds[0], text, channel), daemon=True).start()
