"""A run's figures, as tables in Markdown."""

import statistics

from .load import DIRECT, are_disturbed, counted, median

# The best design that wakes no thread: what all others are compared with.
REFERENCE = "tokio-hyper-drain"
OURS = "red-tentacle"
RELEASED = "red-tentacle-released"
OWN = (RELEASED, OURS)
# They don't race, or are no proxies: limits, not peers.
FLOORS = ("race-floor", "nginx-floor", "haproxy-floor", DIRECT)
# In this order, as far as they were there; in README and in the plot.
SHOWN = (*OWN, REFERENCE, "tokio-hyper", "nginx-lua", "go-seed", "race-floor")
# Closer than this is a tie.
TIE = 1.05


def number(value):
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.3f}"


def rate(scenario):
    return "mbps" if scenario["is_bulk"] else "rps"


def ratio(data, scenario, name, figure=None, to=REFERENCE):
    runs = data["runs"][scenario["name"]]
    figure = figure or rate(scenario)
    return paired(runs.get(name, []), runs.get(to, []), lambda run: run[figure])


def paired(runs, others, value, of_other=None):
    """The median of the ratios within each pass, or None: what a host does for a minute, such as being slower by a fifth, it
    does to both. Where no pass has both, the ratio of the medians."""
    own = {run["pass"]: value(run) for run in counted(runs)}
    other = {run["pass"]: (of_other or value)(run) for run in counted(others)}
    shared = [own[number] / other[number] for number in own if other.get(number)]
    if shared:
        return statistics.median(shared)
    own, other = (statistics.median(values.values()) if values else None for values in (own, other))
    return own / other if own is not None and other else None


def without_own_code(data, scenario, name):
    """The ratio of requests per second if the proxy's own code took no time, and all else as much as it does."""
    runs, cores = data["runs"][scenario["name"]], int(data["meta"]["machine"].split()[0])
    whole = lambda run: cores * run["seconds"] / run["requests"]
    rest = lambda run: whole(run) - run["cpu_user"] / run["requests"]
    return paired(runs.get(REFERENCE, []), runs.get(name, []), whole, rest)


def is_doubtful(data, scenario, name, to=REFERENCE):
    """Whether a ratio tells more of other processes than of these two."""
    runs = data["runs"][scenario["name"]]
    return are_disturbed(runs.get(name, [])) or are_disturbed(runs.get(to, []))


def heading(data):
    meta = data["meta"]
    return (
        f"{meta['when']}, {meta['machine']}; medians of at most {meta['reps']} interleaved runs of {meta['seconds']} s, "
        f"`{meta['command']}`."
    )


def is_growth(scenario):
    return scenario["name"].startswith("G-")


def grown(data):
    """How it grows: requests per second, and CPU ms per request behind the slash."""
    scenarios = [scenario for scenario in data["meta"]["scenarios"] if is_growth(scenario)]
    lines = []
    for letter, what in (("b", "backends, 64 connections"), ("c", "connections, 3 backends")):
        counts = sorted({count_of(scenario) for scenario in scenarios if scenario["name"].startswith(f"G-{letter}")})
        if not counts:
            continue
        lines += ["", f"**Growth** by {what}: requests/s / CPU ms per request", ""]
        lines += ["| proxy, cores | " + " | ".join(map(str, counts)) + " |", "|---|" + "--:|" * len(counts)]
        for cores in sorted({scenario["cores"] for scenario in scenarios}):
            cells = [data["runs"].get(f"G-{letter}{count}@{cores}", {}) for count in counts]
            for name in dict.fromkeys(name for runs in cells for name in runs):
                told = [
                    [number(median(runs.get(name, []), figure)) for figure in ("rps", "cpu_1000")] for runs in cells
                ]
                lines.append(f"| {name}, {cores} | " + " | ".join(" / ".join(pair) for pair in told) + " |")
                beside = [paired(runs.get(name, []), cells[0].get(name, []), lambda run: run["rps"]) for runs in cells]
                lines.append("| × the first in the same pass | " + " | ".join(map(number, beside)) + " |")
    return lines


def count_of(scenario):
    """The number in a name like G-b4@1."""
    return int(scenario["name"][3:].split("@")[0])


def table(data):
    """Everything, a table for each scenario."""
    lines = [
        heading(data),
        "",
        "; ".join(f"{name} {version}" for name, version in data["meta"]["versions"].items()) + ".",
    ]
    lines += [f"Skipped: {name} ({reason})." for name, reason in data["meta"]["skipped"].items()]
    columns = (
        "proxy",
        "",
        f"× {REFERENCE}",
        "p50 ms",
        "p99 ms",
        "max ms",
        "CPU s/1000",
        "MiB",
        "threads",
        "descriptors",
        "backend requests",
        "new lines/1000",
        "switches",
        "errors",
    )
    lines += grown(data)
    for scenario in data["meta"]["scenarios"]:
        lines += ["", f"**{scenario['name']}**: {scenario['what']}", ""]
        head = [
            "MB/s (range)" if column == "" and scenario["is_bulk"] else column or "requests/s (range)"
            for column in columns
        ]
        lines += ["| " + " | ".join(head) + " |", "|---|" + "--:|" * (len(columns) - 1)]
        for name, runs in data["runs"][scenario["name"]].items():
            if runs:
                lines.append(row(data, scenario, name, runs))
    return "\n".join([*lines, *times(data)]) + "\n"


def times(data):
    """Where the time of all cores goes."""
    what = "Where the time of all cores goes, in µs for each request: what the proxy's own code has of it shows what better code could save."
    columns = ("", "proxy", "all cores", "clients", "backends", "proxy: its own code", "proxy: the kernel", "idle")
    columns += (f"× {REFERENCE} with none of its own code",)
    lines = ["", f"**Time**: {what}", "", "| " + " | ".join(columns) + " |", "|---|---|" + "--:|" * (len(columns) - 2)]
    cores = int(data["meta"]["machine"].split()[0])
    for scenario in data["meta"]["scenarios"]:
        for name, runs in data["runs"][scenario["name"]].items():
            good = counted(runs)
            if not good or name == DIRECT:
                continue
            each = lambda seconds: statistics.median(1e6 * seconds(run) / run["requests"] for run in good)
            of_all = lambda run: cores * run["seconds"]
            cells = [
                each(of_all),
                each(lambda run: run["wrk_cpu"]),
                each(lambda run: run["backend_cpu"]),
                each(lambda run: run["cpu_user"]),
                each(lambda run: run["cpu"] - run["cpu_user"]),
                each(lambda run: run["idle"] * of_all(run)),
            ]
            cells.append(without_own_code(data, scenario, name))
            lines.append(f"| {scenario['name']} | {name} | " + " | ".join(map(number, cells)) + " |")
    return lines


def row(data, scenario, name, runs):
    good = counted(runs)
    if not good:
        return f"| {name} | {runs[0]['failed']} |"
    rates = [run[rate(scenario)] for run in good]
    errors = {}
    for run in good:
        for kind, count in run["errors"].items():
            errors[kind] = errors.get(kind, 0) + count
    failed = sum("failed" in run for run in runs)
    if failed:
        errors["failed runs"] = failed
    if are_disturbed(runs):
        errors["disturbed runs"] = len(good)
    last = [run["descriptors"] for run in good][-1]
    span = f"{number(min(rates))}–{number(max(rates))}"
    cells = [name, f"{number(median(runs, rate(scenario)))} ({span})", number(ratio(data, scenario, name))]
    cells += [number(median(runs, figure)) for figure in ("p50", "p99", "max")]
    if name == DIRECT:
        cells += [""] * 4
    else:
        cells += [number(median(runs, "cpu_1000")), number(median(runs, "memory")), f"{median(runs, 'threads'):.0f}"]
        cells.append(f"{last[0]}–{last[1]}")
    cells += [number(median(runs, figure)) for figure in ("backend_requests", "new_lines_1000", "switches")]
    return "| " + " | ".join([*cells, ", ".join(f"{count} {kind}" for kind, count in errors.items())]) + " |"


def readme(data):
    """README's table, and in which rows a peer is ahead."""
    names = [name for name in SHOWN if any(median(runs.get(name, []), "rps") for runs in data["runs"].values())]
    scenarios = [scenario for scenario in data["meta"]["scenarios"] if not is_growth(scenario)]
    what = (
        f"Requests per second (S6: bytes per second), {REFERENCE} = 1; behind the slash CPU time per request, likewise."
    )
    titles = " | ".join(f"**{name}**" if name in OWN else name for name in names)
    lines = [f"{what} {heading(data)}", "", f"| | what | {titles} |", "|---|---|" + "--:|" * len(names)]
    for scenario in scenarios:
        cells = []
        for name in names:
            cell = f"{number(ratio(data, scenario, name))} / {number(ratio(data, scenario, name, 'cpu_1000'))}"
            if name == REFERENCE:
                unit = " MB/s" if scenario["is_bulk"] else "/s"
                cell = number(median(data["runs"][scenario["name"]].get(name, []), rate(scenario))) + unit
            if is_doubtful(data, scenario, name):
                cell += " ?"
            cells.append(f"**{cell}**" if name in OWN else cell if "–" not in cell else "–")
        lines.append(f"| {scenario['name']} | {scenario['what']} | " + " | ".join(cells) + " |")
    if any(is_doubtful(data, scenario, name) for scenario in scenarios for name in names):
        lines += ["", "`?`: other processes were busy in every run, so the figure is no measurement."]
    return "\n".join([*lines, "", *ahead(data, scenarios)]) + "\n"


def ahead(data, scenarios):
    """Where a peer does better than the proxy, by more than a tie."""
    kinds = (
        ("more requests per second", None, False),
        ("a lower 99th percentile", "p99", True),
        ("less CPU per request", "cpu_1000", True),
    )
    for words, figure, is_less_better in kinds:
        found = []
        for scenario in scenarios:
            for name in data["runs"][scenario["name"]]:
                times = ratio(data, scenario, name, figure, to=OURS)
                times = 1 / times if times and is_less_better else times
                is_peer = name not in (*OWN, *FLOORS)
                if is_peer and times and times > TIE and not is_doubtful(data, scenario, name, to=OURS):
                    found.append(f"{name} in {scenario['name']} ({times:.2f} times)")
        yield f"- Peers with {words}: {', '.join(found) or 'none'}."
