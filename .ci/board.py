"""Tries every expression of the Grafana board, and every alert, against a Prometheus that scrapes a proxy under a little load.

board.py URL PROMETHEUS: asks the URL now and then until there is something to see. Fails with every expression that is refused,
and with every one of the board that finds nothing though there is something to find.
board.py --states: a test for promtool of how the board shows the states of replicas that differ.
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


# What each of two replicas says of a backend, and what the board makes of it.
STATES = ("racing", "held", "paused", "benched")
SHOWN = {("racing", "racing"): 1, ("racing", "held"): 2, ("held", "racing"): 2, ("racing", "paused"): 3, ("held", "benched"): 4}


def board_file():
    with open("packaging/grafana/red-tentacle.json") as file:
        return json.load(file)


def states():
    expression = next(found for title, found in expressions(board_file()) if title == "State of each")
    series, shown = [], []
    for pair, expected in SHOWN.items():
        backend = "-".join(pair)
        shown.append({"labels": f'{{backend="{backend}"}}', "value": expected})
        for instance, own in enumerate(pair):
            for state in STATES:
                labels = f'job="r", instance="{instance}", backend="{backend}", state="{state}"'
                series.append({"series": f"red_tentacle_backend_state{{{labels}}}", "values": f"{int(state == own)}x5"})
    case = {"expr": expression, "eval_time": "3m", "exp_samples": shown}
    print(json.dumps({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [case]}]}))


def main(url, prometheus):
    begun = time.monotonic()
    while time.monotonic() - begun < SECONDS:
        urllib.request.urlopen(url, timeout=10).read()
        time.sleep(0.02)
    board = board_file()
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


states() if sys.argv[1:] == ["--states"] else main(*sys.argv[1:])
