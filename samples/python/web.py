"""Answers requests: the platform calls `handle` for each."""

import os
import time

from gilliam import Response, queue

STARTED = time.time()
GREETING = os.environ.get("GREETING", "Hello from Python")


def handle(request):
    print(request.method, request.url)
    match request.path:
        case "/":
            return f"{GREETING}\n"
        case "/env":
            return Response.json(dict(sorted(os.environ.items())))
        case "/echo":
            return Response(
                request.body, headers={"content-type": request.headers.get("content-type", "text/plain")}
            )
        case "/sleep":
            time.sleep(0.1)
            return "slept\n"
        case "/stream":
            return Response(
                (f"line {number}\n" for number in range(3)), headers={"content-type": "text/plain"}
            )
        case "/mails":
            return Response.json(queue("mails").put(request.json()), status=202)
        case "/fail":
            raise ValueError("this request fails, the next does not")
    return Response("not found\n", status=404)
