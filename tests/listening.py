"""Where the processes that this one has started listen, as the kernel has it."""

import ipaddress
import struct
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

LISTENS = "0A"


def family(root: int) -> set[int]:
    """A process and all that descend from it."""
    children = defaultdict(set)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            number, rest = stat.read_text().split(" ", 1)
            children[int(rest.rpartition(")")[2].split()[1])].add(int(number))
    found, new = {root}, {root}
    while new:
        new = {child for one in new for child in children[one]} - found
        found |= new
    return found


def addresses(processes: set[int]) -> set[tuple[str, int]]:
    """Addresses and ports on which any of these listens for TCP."""
    sockets = set()
    for one in processes:
        with suppress(OSError):
            for link in Path(f"/proc/{one}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == LISTENS and f"socket:[{words[9]}]" in sockets:
                address, port = words[1].split(":")
                found.add((_plain(bytes.fromhex(address)), int(port, 16)))
    return found


def _plain(words: bytes) -> str:
    """An address that the kernel writes in words of the machine's own order."""
    ordered = struct.pack(f">{len(words) // 4}I", *struct.unpack(f"={len(words) // 4}I", words))
    address = ipaddress.ip_address(ordered)
    return str(getattr(address, "ipv4_mapped", None) or address)
