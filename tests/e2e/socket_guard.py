"""Run `aiops` with an audit hook that writes every foreign address the process looks up or connects to.

Usage: python socket_guard.py LOG ARGUMENT...
"""

import ipaddress
import sys

LOCAL_NAMES = {None, "", "localhost", b"localhost"}


def foreign(host: object) -> bool:
    if host in LOCAL_NAMES:
        return False
    try:
        return not ipaddress.ip_address(str(host)).is_loopback
    except ValueError:
        return True


def main() -> None:
    log, sys.argv = sys.argv[1], ["aiops", *sys.argv[2:]]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        host: object = None
        if event == "socket.getaddrinfo":
            host = arguments[0]
        elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
            host = arguments[1][0]
        if foreign(host):
            with open(log, "a", encoding="utf-8") as out:
                out.write(f"{event} {host!r}\n")

    sys.addaudithook(hook)
    from aiops.cli import main as aiops

    aiops()


if __name__ == "__main__":
    main()
