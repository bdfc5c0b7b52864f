"""`curl` and `jq` as the cookbook uses them, for machines without; any option it does not use is an error.

python shell_tools.py curl [options] URL
python shell_tools.py jq -r PATH
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import httpx2


def curl(words: list[str]) -> int:
    """22 where the server refuses, as the real one; the body is printed all the same."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("-sS", action="store_true", required=True)
    parser.add_argument("--fail-with-body", action="store_true", required=True)
    parser.add_argument("-H", action="append", default=[], dest="headers")
    parser.add_argument("-X", dest="method")
    parser.add_argument("-d", dest="data")
    parser.add_argument("--data-binary", dest="file")
    parser.add_argument("-C", dest="from_byte", choices=["-"])
    parser.add_argument("-O", action="store_true", dest="keeps_name")
    asked = parser.parse_args(words)
    headers = dict(header.split(": ", 1) for header in asked.headers)
    target = Path(asked.url.rpartition("/")[2])
    if asked.from_byte and target.exists():
        headers["Range"] = f"bytes={target.stat().st_size}-"
    body = asked.data.encode() if asked.data else None
    if asked.file:
        body = Path(asked.file.removeprefix("@")).read_bytes()
    method = asked.method or ("GET" if body is None else "POST")
    answer = httpx2.request(method, asked.url, headers=headers, content=body, timeout=30)
    if answer.is_success and asked.keeps_name:
        with target.open("ab" if answer.status_code == 206 else "wb") as file:
            file.write(answer.content)
    else:
        sys.stdout.write(answer.text)
    return 0 if answer.is_success else 22


def jq(words: list[str]) -> int:
    """One path, such as .items[0].id; a string is printed without quotes."""
    flag, path = words
    found = json.loads(sys.stdin.read())
    for name, place in re.findall(r"\.(\w+)|\[(\d+)\]", path):
        found = found[name] if name else found[int(place)]
    sys.stdout.write((found if flag == "-r" and isinstance(found, str) else json.dumps(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit({"curl": curl, "jq": jq}[sys.argv[1]](sys.argv[2:]))
