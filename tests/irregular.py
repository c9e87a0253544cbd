"""What has a path but is no regular file: reading it could wait for ever, or never end."""

import os
import socket
from contextlib import chdir
from pathlib import Path


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener, chdir(path.parent):
        listener.bind(path.name)  # the path of a socket must be short


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


IRREGULAR = (a_pipe, a_socket, a_device)
