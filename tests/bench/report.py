"""What the bench found, as a table and plots: in target/bench, and in docs/performance.md between its markers."""

import html
import os
import re
import statistics
import subprocess
import time

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def number(x):
    """Three digits that mean something."""
    if abs(x) >= 100:
        return f"{x:,.0f}"
    return f"{x:.1f}" if abs(x) >= 10 else f"{x:.2f}"


def quartiles(xs):
    return statistics.quantiles(xs, n=4, method="inclusive")[::2] if len(xs) > 1 else (xs[0], xs[0])


def machine():
    with open("/proc/cpuinfo") as file:
        model = re.search(r"model name\s*: (.*)", file.read())
    with open("/proc/meminfo") as file:
        memory = int(re.search(r"MemTotal:\s*(\d+)", file.read())[1])
    name = model[1] if model else os.uname().machine
    return f"{name}, {os.cpu_count()} CPUs, {memory / 2**20:.0f} GiB, Linux {os.uname().release}"


class Report:
    def __init__(self, version, length):
        self.major = version.split(".")[0]
        commit = subprocess.run(["git", "-C", TOP, "describe", "--always", "--dirty"], capture_output=True, text=True).stdout
        self.head = (f"PostgreSQL {version}, idgen at {commit.strip() or 'an unknown commit'}, {machine()}; "
                     f"{length} run of {time.strftime('%Y-%m-%d')}")
        self.load = os.getloadavg()[0]
        self.lines = []
        self.plots = {}

    def group(self, title, method):
        self.lines.append(f"| **{title}** ({method}) | | | | | |")

    def row(self, name, values, other=None, others=()):
        """One line: the median and the quartiles of `values`, and of their ratios to `others`, round by round."""
        if None in values:
            self.lines.append(f"| {name} | duplicate key ({values.count(None)} of {len(values)}) | | | | |")
            return
        spread = lambda xs, form: "–".join(map(form, quartiles(xs))) if len(xs) > 1 else ""
        ratio = ""
        if other and other != name and all(others):
            ratios = [value / beside for value, beside in zip(values, others)]
            two = "{:.2f}".format
            ratio = f"{two(statistics.median(ratios))} | {spread(ratios, two)} | {other}"
        self.lines.append(f"| {name} | {number(statistics.median(values))} | {spread(values, number)} | {ratio or '| |'} |")

    def plot(self, name, title, unit, groups):
        self.plots[name] = (title, f"PostgreSQL {self.major}: {title}", bars(f"{title} (PostgreSQL {self.major})", unit, groups))

    def write(self):
        load = f"load of the machine {self.load:.1f} at the start, {os.getloadavg()[0]:.1f} at the end"
        table = "\n".join([
            f"{self.head}; {load}.", "",
            "| | median | quartiles | ratio | quartiles | to |", "|---|---:|---:|---:|---:|---|", *self.lines]) + "\n"
        folder = os.path.join(TOP, "target", "bench", self.major)
        os.makedirs(folder, exist_ok=True)
        os.makedirs(f"{TOP}/docs/performance", exist_ok=True)
        shown = []
        for name, (_, description, svg) in self.plots.items():
            for path in (f"{folder}/{name}.svg", f"{TOP}/docs/performance/{self.major}-{name}.svg"):
                with open(path, "w") as file:
                    file.write(svg)
            shown.append(f"![{description}](performance/{self.major}-{name}.svg)\n")
        with open(f"{folder}/table.md", "w") as file:
            file.write(table)
        path = f"{TOP}/docs/performance.md"
        with open(path) as file:
            text = file.read()
        begin, end = f"<!-- bench {self.major} -->\n", "<!-- end -->\n"
        before, marker, after = text.partition(begin)
        if marker:
            text = before + begin + "\n" + "\n".join([*shown, table]) + "\n" + end + after.partition(end)[2]
            with open(path, "w") as file:
                file.write(text)
        print(table)


def step(top):
    """The distance of about five ticks up to `top`: 1, 2 or 5 times a power of ten."""
    power = 10 ** (len(str(int(top * 1000))) - 4)
    return next(s * power for s in (0.1, 0.2, 0.5, 1, 2, 5, 10) if s * power * 6 >= top)


def bars(title, unit, groups):
    """An SVG of horizontal bars for medians from 0, with lines for the quartiles."""
    left, right, bar, width = 260, 90, 18, 900
    others = list(dict.fromkeys(label for _, items in groups for label, _ in items if "idgen" not in label))
    colours = ("#999999", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")
    top = max(quartiles(values)[1] for _, items in groups for _, values in items if None not in values)
    ticks = step(top)
    top = ticks * -(-top // ticks)
    x = lambda value: left + max(value, 0) / top * (width - left - right)
    parts, y = [], 70
    text = lambda at, y, what, more="": parts.append(f'<text x="{at:.1f}" y="{y}" {more}>{html.escape(what)}</text>')
    line = lambda x1, x2, y1, y2, more: parts.append(f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1}" y2="{y2}" {more}/>')
    for name, items in groups:
        if name:
            text(10, y + 13, name, 'font-weight="bold"')
            y += bar + 2
        for label, values in items:
            text(left - 6, y + 12, label, 'text-anchor="end"')
            if None in values:
                text(left + 5, y + 12, "duplicate key")
                y += bar
                continue
            middle, (low, high) = statistics.median(values), quartiles(values)
            # Blue is idgen; another product has the same colour in all groups, where there are several.
            colour = "#1f77b4" if "idgen" in label else colours[others.index(label) if len(groups) > 1 else 0]
            parts.append(f'<rect x="{left}" y="{y}" width="{x(middle) - left:.1f}" height="{bar - 4}" fill="{colour}"/>')
            line(x(low), x(high), y + 7, y + 7, 'stroke="black"')
            text(x(max(middle, high)) + 5, y + 12, number(middle))
            y += bar
        y += 10
    grid = []
    for i in range(round(top / ticks) + 1):
        at = x(i * ticks)
        grid.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="62" y2="{y}" stroke="#ddd"/>')
        text(at, y + 14, f"{i * ticks:g}", 'text-anchor="middle"')
    text((left + width - right) / 2, y + 32, unit, 'text-anchor="middle"')
    text(10, 24, title, 'font-size="16" font-weight="bold"')
    text(10, 44, "bars: median; black lines: quartiles of the rounds", 'fill="#555"')
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 44}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{y + 44}" fill="white"/>', *grid, *parts, "</svg>", ""])
