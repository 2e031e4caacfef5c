#!/usr/bin/env python3
"""Draws the README's two plots from the tables in converter/QUALITY.md and benches/SPEED.md.

    benches/plots/plots.py            # writes quality.svg and speed.svg beside this script

Figures come from those tables only: measure with benches/pareto.py and benches/speed.py, correct the tables, run this again.
"""

import argparse
import html
import math
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WIDTH, ROW = 860, 30

STYLE = """
svg{font:13px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif}
.card{fill:#fff;stroke:#d0d7de} text{fill:#1f2328} .dim{fill:#59636e} .grid{stroke:#d8dee4} .bold{font-weight:600} .axis{font-size:11px}
.ours{fill:#0969da} .theirs{fill:#bc6c00} .link{stroke:#8c959f;stroke-width:2} .range{stroke:#1f2328;stroke-width:1.5;stroke-opacity:.6}
@media(prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#3d444d} text{fill:#f0f6fc} .dim{fill:#9198a1}
.grid{stroke:#2b3138} .ours{fill:#4493f8} .theirs{fill:#e0902f} .range{stroke:#f0f6fc}}
"""


def table(page, header):
    """Rows, as lists of cells, of every table of a Markdown page that begins with these columns, in order."""
    found, rows = [], None
    for line in page.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            rows = None
        elif cells[: len(header)] == header:
            rows = []
            found.append(rows)
        elif rows is not None and not set(line) <= set("|-: "):
            rows.append(cells)
    if not found:
        sys.exit(f"{page} has no table that begins with {' | '.join(header)}")
    return found


def text(x, y, words, kind="", anchor="start"):
    kind = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{kind} text-anchor="{anchor}">{html.escape(words)}</text>'


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def dot(x, y, kind):
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6" class="{kind}"/>'


def picture(title, subtitle, height, elements):
    """A card with a heading and the legend."""
    legend = [dot(WIDTH - 190, 26, "theirs"), text(WIDTH - 178, 31, "llama.cpp")]
    legend += [dot(WIDTH - 92, 26, "ours"), text(WIDTH - 80, 31, "Thimble")]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}">',
            f"<title>{html.escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8" class="card"/>',
            f'<text x="20" y="31" class="bold" style="font-size:15px">{html.escape(title)}</text>',
            text(20, 51, subtitle, "dim"),
            *legend,
            *elements,
            "</svg>\n",
        ]
    )


def divergences(rows, name, left, right, top):
    """One model: for each of llama.cpp's types two dots on a logarithmic axis, and how many times lower ours is."""
    start, end = left + 138, right - 80
    pairs = [(row[0], row[1], float(row[2]), float(row[6])) for row in rows]
    every = [value for pair in pairs for value in pair[2:]]
    low, high = math.floor(math.log10(min(every))), math.ceil(math.log10(max(every)))

    def place(value):
        return start + (end - start) * (math.log10(value) - low) / (high - low)

    bottom = top + 14 + ROW * len(pairs)
    drawn = [text(left, top, name, "bold")]
    for power in range(low, high + 1):
        x = place(10.0**power)
        drawn += [line(x, top + 12, x, bottom, "grid"), text(x, bottom + 17, f"{10.0**power:.{max(0, -power)}f}", "dim axis", "middle")]
    for position, (kind, size, theirs, ours) in enumerate(pairs):
        y = top + 14 + ROW * (position + 0.5)
        drawn += [text(left, y + 4, kind), text(start - 14, y + 4, f"{size} MB", "dim", "end")]
        drawn += [line(place(ours), y, place(theirs), y, "link"), dot(place(theirs), y, "theirs"), dot(place(ours), y, "ours")]
        drawn.append(text(right, y + 4, f"{theirs / ours:.1f}× less", "", "end"))
    return drawn, bottom + 24


def quality():
    """Divergence from the original at the size of each of llama.cpp's files."""
    tables = table(ROOT / "converter/QUALITY.md", ["llama.cpp", "MB", "mean KL"])
    never, instruct = tables[0], tables[1]
    half = WIDTH / 2
    first, bottom = divergences(instruct, "SmolLM2-135M-Instruct", 20, half - 16, 84)
    second, _ = divergences(never, "3.1 M parameters, never quantized before", half + 16, WIDTH - 20, 84)
    note = "Mean KL divergence from the F16 original, nats per token (logarithmic): further left is better. Only Thimble calibrates."
    return picture("Loss of quality at the same file size", note, bottom + 4, first + second)


def speeds(rows, name, top, place):
    """Bars with ranges: tokens per second of one model on two threads."""
    drawn = [text(20, top, name, "bold")]
    for position, (test, ours, theirs, ratio) in enumerate(rows):
        y = top + 14 + 44 * position
        drawn.append(text(20, y + 21, test))
        for offset, cell, kind in [(0, ours, "ours"), (17, theirs, "theirs")]:
            value, *span = (float(number.replace(",", "")) for number in re.findall(r"[\d,.]+", cell))
            drawn.append(f'<rect x="{place(0):.1f}" y="{y + offset}" width="{place(value) - place(0):.1f}" height="15" class="{kind}"/>')
            if span:
                drawn.append(line(place(span[0]), y + offset + 7.5, place(span[1]), y + offset + 7.5, "range"))
            drawn.append(text(place(max([value, *span])) + 7, y + offset + 12, f"{value:,.0f}", "dim"))
        drawn.append(text(WIDTH - 20, y + 21, f"{float(ratio):.1f}×", "bold", "end"))
    return drawn, top + 14 + 44 * len(rows)


def speed(page):
    """Tokens per second on two threads."""
    shape = [row for row in table(page, ["test", "threads", "thimble", "llama.cpp"])[0] if row[1] == "2"]
    models = table(page, ["model", "test", "threads", "thimble", "llama.cpp"])[0]
    real = [row[1:] for row in models if row[0] == "135M, 4 bits" and row[2] == "2"]
    parts = [[(row[0], row[2], row[3], row[4]) for row in rows] for rows in (shape, real)]
    numbers = [float(n.replace(",", "")) for rows in parts for row in rows for n in re.findall(r"[\d,.]+", f"{row[1]} {row[2]}")]
    most = 500 * math.ceil(max(numbers) / 500)

    def place(value):
        return 215 + (WIDTH - 340) * value / most

    first, middle = speeds(parts[0], "Shape of SmolLM2-70M, 4 bits", 84, place)
    second, bottom = speeds(parts[1], "SmolLM2-135M-Instruct, 4 bits", middle + 24, place)
    grid = [line(place(at), 90, place(at), bottom, "grid") for at in range(0, most + 1, 500)]
    scale = [text(place(at), bottom + 17, f"{at:,}", "dim axis", "middle") for at in range(0, most + 1, 500)]
    note = "Tokens per second on two cores with AVX-512, medians and ranges: longer is better. Only Thimble uses AMX (for prompts)."
    return picture("Speed on the CPU", note, bottom + 28, grid + scale + first + second)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=pathlib.Path, default=ROOT / "benches/SPEED.md", help="the page with the tables of speeds")
    parser.add_argument("-o", "--output", type=pathlib.Path, default=HERE, help="folder")
    flags = parser.parse_args()
    for name, svg in [("quality.svg", quality()), ("speed.svg", speed(flags.speed))]:
        (flags.output / name).write_text(svg)
        print(flags.output / name, len(svg), "bytes")


if __name__ == "__main__":
    main()
