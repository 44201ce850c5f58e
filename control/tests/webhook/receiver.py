"""A program that is sent webhooks, for tests: Python's own HTTP server, and on request as bad as real ones are.

Prints its port, then a line of JSON for every request. Orders come on standard input, one a line:
accept | status CODE [RETRY-AFTER] | redirect URL | hang | cut | hold
"""

import base64
import hashlib
import hmac
import json
import ssl
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

mood = {"do": "accept", "argument": ""}
lock = threading.Lock()


def say(value):
    with lock:
        print(json.dumps(value), flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        ident, at = self.headers["webhook-id"], self.headers["webhook-timestamp"]
        key = base64.b64decode(sys.argv[2])
        signed = b".".join([ident.encode(), at.encode(), body])
        expected = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        say(
            {
                "id": ident,
                "path": self.path,
                "type": self.headers["content-type"],
                "host": self.headers["host"],
                "signed": expected in self.headers["webhook-signature"].split(" "),
                "age": abs(time.time() - int(at)),
                "body": body.decode(),
            }
        )
        do, argument = mood["do"], mood["argument"]
        if do in ("hang", "hold"):
            time.sleep(3600)
        elif do == "cut":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
            self.wfile.flush()
            self.close_connection = True
        elif do == "redirect":
            self.answer(307, {"Location": argument})
        elif do == "status":
            code, _, later = argument.partition(" ")
            self.answer(int(code), {"Retry-After": later} if later else {})
        else:
            self.answer(200, {})

    def answer(self, code, headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    if len(sys.argv) > 3:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[3], sys.argv[4])
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say({"port": server.server_address[1]})
    for line in sys.stdin:
        order, _, argument = line.strip().partition(" ")
        mood.update(do=order, argument=argument)
        say({"did": order})


main()
