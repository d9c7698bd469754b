"""What `benches/capacity` has measured, as a table in Markdown."""

import statistics

from .report import number

# A row is remarked on in which other processes took more of the CPUs.
FOREIGN = 0.10
HEAD = ["row", "what", "streams", "KiB each", "threads", "descriptors", "MiB", "CPU"]
HEAD += ["requests/s", "p50 ms", "p99 ms", "failures and remarks"]


def table(data):
    meta = data["meta"]
    lines = [
        f"{meta['machine']}, {meta['when']}; runs: {meta['reps']} of {meta['seconds']:g} s. In brackets: times that "
        "without the streams, or with a good backend in the ill one's place. CPU: of the proxy, seconds a second.",
        "",
    ]
    rows = [HEAD, ["---", "---", *["--:"] * 9, "---"]]
    for name, result in data["rows"].items():
        if name == "idle" and "idle" in result:
            rows.append(idle_line(result))
        rows.append(line(name, result))
    return "\n".join(lines + ["| " + " | ".join(cells) + " |" for cells in rows]) + "\n"


def idle_line(result):
    idle = result["idle"]
    cells = [f"{idle['threads']}", f"{idle['descriptors']}", number(idle["rss"] / 1024)]
    return ["", "no client", "", "", *cells, *[""] * 5]


def line(name, result):
    row = result["row"]
    if "failed" in result:
        return [name, row["what"], *[""] * 9, result["failed"]]
    runs = result["runs"]
    most = peak([run["load"]["peak"] for run in runs] + [run["opening"] for run in runs if "opening" in run])
    remarks = failures(runs) + leftovers(result)
    foreign = median(runs, "load", "foreign")
    if foreign > FOREIGN:
        remarks.append(f"other processes took {foreign:.0%} of the CPUs")
    return [
        name,
        row["what"],
        *(streams(row["count"], runs) if row["count"] else ["", ""]),
        f"{most['threads']:,}",
        f"{most['descriptors']:,}",
        number(most["rss"] / 1024),
        *(beside_base(runs, figure) for figure in ("cpu", "rps", "p50", "p99")),
        "; ".join(remarks),
    ]


def streams(count, runs):
    """How many there were, at least, and KiB for each: the first ones' in a fresh proxy, since memory is kept."""
    opened = min(run["crowd"]["open"] for run in runs)
    first = runs[0]
    added, first_opened = first["load"]["rss"] - first["rss_before"], first["crowd"]["open"]
    return [
        f"{opened:,}" if opened == count else f"{opened:,} of {count:,}",
        number(added / first_opened) if first_opened else "–",
    ]


def is_left(sample, idle):
    """Whether something of the streams is still there, beside the kept connections to two backends."""
    return sample["descriptors"] > idle["descriptors"] + 2 * 64


def leftovers(result):
    found = [run["after"] for run in result["runs"] if "after" in run and is_left(run["after"], result["idle"])]
    return [f"when they had gone: {max(sample['descriptors'] for sample in found):,} descriptors"] if found else []


def peak(samples):
    return {name: max(sample[name] for sample in samples) for name in samples[0]}


def median(runs, part, figure):
    values = [run[part][figure] for run in runs if part in run and run[part][figure] is not None]
    return statistics.median(values) if values else None


def beside_base(runs, figure):
    """With the load, and how many times that without it."""
    value, base = median(runs, "load", figure), median(runs, "base", figure)
    return number(value) + (f" ({number(value / base)})" if base and value is not None else "")


def failures(runs):
    """The most in a run: those of streams, and those of the 64 clients with and without the load."""
    parts = []
    for of, part in (("streams", "crowd"), ("requests", "load"), ("requests without", "base")):
        counts = {}
        for run in runs:
            for reason, count in run.get(part, {"failures": {}})["failures"].items():
                counts[reason] = max(counts.get(reason, 0), count)
        if counts:
            parts.append(f"{of}: " + ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items())))
    return parts
