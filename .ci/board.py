"""Tries every expression of the Grafana board, and every alert, against a Prometheus that scrapes a proxy under a little load.

board.py URL PROMETHEUS: asks the URL now and then until there is something to see. Fails with every expression that is refused,
and with every one of the board that finds nothing though there is something to find.
"""

import json
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

# What a demo doesn't bring about.
MAY_BE_EMPTY = ("> 0",)
SECONDS = 12
ASSUMED = {"$__rate_interval": "5s", "$__range": "10s", "$job": ".*", "$instance": ".*", "$backend": ".*"}


def ask(prometheus, path, **parameters):
    url = f"{prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return json.load(reply)
    except urllib.error.HTTPError as refused:
        return json.load(refused)


def expressions(board):
    for panel in board["panels"]:
        for target in panel["targets"]:
            expression = target["expr"]
            for variable, value in ASSUMED.items():
                expression = expression.replace(variable, value)
            yield panel["title"], expression


def main(url, prometheus):
    begun = time.monotonic()
    while time.monotonic() - begun < SECONDS:
        urllib.request.urlopen(url, timeout=10).read()
        time.sleep(0.02)
    with open("packaging/grafana/red-tentacle.json") as file:
        board = json.load(file)
    failures = []
    for title, expression in expressions(board):
        answer = ask(prometheus, "query", query=expression)
        found = answer.get("data", {}).get("result", [])
        if answer["status"] != "success":
            failures.append(f"{title}: {answer['error']}: {expression}")
        elif not found and not expression.endswith(MAY_BE_EMPTY):
            failures.append(f"{title}: finds nothing: {expression}")
    for variable in board["templating"]["list"][1:]:
        metric = variable["definition"].removeprefix("label_values(").split("{")[0].split(",")[0]
        label = variable["name"]
        if not any(label in series for series in ask(prometheus, "series", **{"match[]": metric})["data"]):
            failures.append(f"no series of {metric} has the label {label}")
    for group in ask(prometheus, "rules")["data"]["groups"]:
        for rule in group["rules"]:
            if rule["health"] != "ok" or rule["state"] != "inactive":
                failures.append(f"{rule['name']} is {rule['health']} and {rule['state']}: {rule.get('lastError', '')}")
    sys.exit("\n".join(failures) or 0)


main(*sys.argv[1:])
