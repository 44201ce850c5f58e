"""A mail server for tests: aiosmtpd, and on request as bad as real ones are.

Prints its port, then a line of JSON for every mail it takes. Orders come on standard input, one a line:
accept | refuse ADDRESS | greylist ADDRESS | die | slow SECONDS | hold
"""

import asyncio
import json
import ssl
import sys
import threading

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

mood = {"refuse": set(), "greylist": set(), "die": False, "slow": 0.0, "hold": False, "data": "", "login": None}
lock = threading.Lock()


def say(value):
    with lock:
        print(json.dumps(value), flush=True)


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in mood["refuse"]:
            return "550 5.1.1 no such user here"
        if address in mood["greylist"]:
            return "451 4.7.1 greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if mood["slow"]:
            await asyncio.sleep(mood["slow"])
        if mood["data"]:
            return mood["data"]
        taken = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "login": mood["login"],
            "tls": server.transport.get_extra_info("ssl_object") is not None,
            "mail": envelope.original_content.decode("latin-1"),
        }
        if mood["hold"]:
            # Taken, and the answer never comes: whoever is killed now cannot know.
            say(taken)
            await asyncio.sleep(3600)
        say(taken)
        return "250 OK taken"


class Server(SMTP):
    async def smtp_DATA(self, arg):
        if mood["die"]:
            await self.push("354 go on")
            await self._reader.readline()
            self.transport.abort()
            return
        await super().smtp_DATA(arg)


class Ours(Controller):
    def factory(self):
        return Server(self.handler, **self.SMTP_kwargs)


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == b"cordon" and data.password == b"a secret with \xc3\xa4"
    if good:
        mood["login"] = data.login.decode()
    return AuthResult(success=good, handled=good)


def main():
    options = {"hostname": "127.0.0.1", "port": int(sys.argv[1])}
    if len(sys.argv) > 2:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[2], sys.argv[3])
        if sys.argv[4] == "starttls":
            options |= {"tls_context": context, "require_starttls": True}
        else:
            options |= {"ssl_context": context}
        options |= {"authenticator": authenticate, "auth_required": True, "auth_require_tls": sys.argv[4] == "starttls"}
    controller = Ours(Handler(), **options)
    controller.start()
    say({"port": controller.server.sockets[0].getsockname()[1]})
    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        if order == "accept":
            mood.update(refuse=set(), greylist=set(), die=False, slow=0.0, hold=False, data="")
        elif order in ("refuse", "greylist"):
            mood[order].add(argument)
        elif order in ("die", "hold"):
            mood[order] = True
        elif order == "slow":
            mood["slow"] = float(argument)
        elif order == "data":
            mood["data"] = argument
        say({"did": order})
    controller.stop()


main()
