"""A Flask application as it would run anywhere."""

import os

from flask import Flask, abort, jsonify, render_template, request

app = Flask(__name__)
app.config["TITLE"] = os.environ.get("TITLE", "Guests")
guests = []


@app.get("/")
def index():
    return render_template("index.html", title=app.config["TITLE"], guests=guests)


@app.post("/guests")
def add():
    name = request.form.get("name", "").strip()
    if not name:
        abort(400, "a guest has a name")
    guests.append(name)
    return jsonify(guests), 201


@app.get("/fail")
def fail():
    raise RuntimeError("this request fails, the next does not")


if __name__ == "__main__":
    app.run(port=int(os.environ.get("PORT", "5000")))
