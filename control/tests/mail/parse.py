"""Reads a mail with Python's own library, which is strict about it, and prints what a person would see, as JSON."""

import base64
import email
import email.policy
import json
import sys

raw = sys.stdin.buffer.read()
lines = raw.split(b"\r\n")
mail = email.message_from_bytes(raw, policy=email.policy.default)
defects = [str(d) for part in mail.walk() for d in part.defects]
defects += [f"{name}: {d}" for part in mail.walk() for name, value in part.items() for d in value.defects]
body = mail.get_body(("plain",))
print(
    json.dumps(
        {
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "names": [name.lower() for name in mail.keys()],
            "defects": defects,
            "to": [a.addr_spec for a in mail["to"].addresses],
            "from": [mail["from"].addresses[0].display_name, mail["from"].addresses[0].addr_spec],
            "date": mail["date"].datetime.isoformat(),
            "body": body.get_content(),
            "longest": max(len(line) for line in lines),
            "ascii": all(b < 128 for b in raw),
            "bare": raw.count(b"\n") - raw.count(b"\r\n"),
            "files": {
                part.get_filename(): {
                    "type": part.get_content_type(),
                    "base64": base64.b64encode(part.get_payload(decode=True)).decode(),
                }
                for part in mail.iter_attachments()
            },
        }
    )
)
