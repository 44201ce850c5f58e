"""Reads a mail on standard input with Python's own library, compares its attachments with the files in a folder byte for
byte, and holds its XARF report against the official schemas (package xarf). Prints what it found as JSON."""

import base64
import email
import email.policy
import hashlib
import json
import pathlib
import sys

from xarf.schema_validator import schema_validator


def errors(report):
    return [f"{e.field}: {e.message}" for e in schema_validator.validate(report)]


mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
files = {part.get_filename(): part.get_payload(decode=True) for part in mail.iter_attachments()}
folder = pathlib.Path(sys.argv[1])
found = {
    "subject": mail["subject"],
    "defects": [str(d) for part in mail.walk() for d in part.defects],
    "names": sorted(files),
    "different": [n for n, b in files.items() if n != "xarf.json" and b != (folder / n).read_bytes()],
    "xarf": None,
}
if "xarf.json" in files:
    report = json.loads(files["xarf.json"])
    evidence = {e["description"]: (base64.b64decode(e["payload"], validate=True), e) for e in report["evidence"]}
    found["xarf"] = report
    found["errors"] = errors(report)
    found["different"] += [
        f"xarf.json: {name}"
        for name, (payload, e) in evidence.items()
        if payload != files[name]
        or e["size"] != len(payload)
        or e["hash"] != "sha256:" + hashlib.sha256(payload).hexdigest()
    ]
    # A validator that finds nothing wrong with this one would find nothing at all.
    found["without_port"] = errors({k: v for k, v in report.items() if k != "source_port"})
    found["without_time"] = errors({**report, "first_seen": "yesterday"})
print(json.dumps(found))
