"""Python on gilliam: what a web process answers with, and how it asks others.

from gilliam import Response

def handle(request):
    return Response("hello\\n")
"""

from gilliam._message import Headers, Request, Response
from gilliam._fetch import fetch

__all__ = ["Headers", "Request", "Response", "fetch"]
