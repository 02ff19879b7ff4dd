"""Uses the application's templates without a request."""

import time

from app import app
from flask import render_template

with app.app_context():
    while True:
        print(len(render_template("index.html", title="report", guests=["Ada"])), "bytes of report")
        time.sleep(1)
