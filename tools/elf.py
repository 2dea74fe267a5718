"""Mends programs of the PostgreSQL wheel that its packager's tool broke.

The tool moved the dynamic section of pg_regress and pg_isolation_regress into a page that is loaded read-only; the
loader writes there and dies. Loading that page writable is all they need.
"""

import struct

PT_LOAD, PT_DYNAMIC, PF_W, PAGE = 1, 2, 2, 0x1000


def mend(path):
    """Marks as writable the loaded segments that share a page with the dynamic section."""
    with open(path, "r+b") as file:
        start = file.read(64)
        # 64-bit little-endian only: what the pinned wheels hold.
        if start[:6] != b"\x7fELF\x02\x01":
            return
        (table,) = struct.unpack_from("<Q", start, 32)
        size, count = struct.unpack_from("<HH", start, 54)
        file.seek(table)
        headers = [struct.unpack_from("<IIQQQQQQ", file.read(size)) for _ in range(count)]
        dynamic = [header for header in headers if header[0] == PT_DYNAMIC]
        if not dynamic:
            return
        first, last = _pages(dynamic[0])
        for number, header in enumerate(headers):
            begin, end = _pages(header)
            if header[0] == PT_LOAD and begin <= last and first <= end and not header[1] & PF_W:
                file.seek(table + number * size + 4)
                file.write(struct.pack("<I", header[1] | PF_W))


def _pages(header):
    address, length = header[3], header[6]
    return address // PAGE, (address + max(length, 1) - 1) // PAGE
