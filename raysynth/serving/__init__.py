"""Runs over HTTP: what answers, whoever starts it. `stages.serve` does, on Ray.

tokens.py     whose a request is, and what it may; hashes in a file
catalogue.py  runs in a place by name, and the few that are open
formats.py    rows in five formats, piece by piece
flow.py       streams that stop when the client goes, and no faster than it reads
guard.py      what is refused before it is read: size, slowness, other origins; places in line
jobs.py       samples written in the background, to a place that is allowed
files.py      SQLite that servers share
audit.py      the log of what left, and the rows a token had today
answers.py    one request for rows, from its check to its last byte
server.py     all of that together, without HTTP
web.py        the routes, and page.html
problems.py   what goes wrong, as RFC 9457 has it
"""
