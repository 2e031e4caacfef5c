"""Screens of a terminal as one animated SVG: each piece of text is there once and appears at its time."""

import html

CELL, LINE = 8.4, 19  # pixels of a character
LEFT, TOP, BAR = 18, 16, 34
HOLD = 6  # seconds that the last screen stays

STYLE = """
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#e6edf3;white-space:pre}}
text.d{{fill:#8b949e}} text.b{{fill:#8b949e;font-size:13px}} .g{{opacity:0}}
[class*=t]{{animation:0s step-end infinite;animation-duration:{seconds:.2f}s}}
#c{{fill:#7ee787;animation:c {seconds:.2f}s step-end infinite}}
"""
CALM = "@media(prefers-reduced-motion:reduce){*{animation:none!important}}"


class Piece:
    """A run of characters that appears, and perhaps goes, as a whole."""

    def __init__(self, row, column, text, dim, at):
        self.row, self.column, self.text, self.dim, self.at = row, column, text, dim, at
        self.until = None

    def cells(self):
        return [(character, self.dim) for character in self.text]


def pieces_of(cells, row, column, at):
    """Cells from `column` on as pieces of one style each, spaces at both ends left out."""
    made = []
    start = column
    while start < len(cells):
        dim = cells[start][1]
        end = start
        while end < len(cells) and cells[end][1] == dim:
            end += 1
        made.append(Piece(row, start, "".join(character for character, _ in cells[start:end]), dim, at))
        start = end
    return made


def trace(frames):
    """All pieces that the frames show."""
    live, done = {}, []
    for at, rows, _ in frames:
        for row, cells in enumerate(rows):
            kept, column = [], 0
            for piece in live.get(row, []):
                end = column + len(piece.text)
                if piece.cells() == cells[column:end]:
                    kept.append(piece)
                    column = end
                    continue
                break
            for piece in live.get(row, [])[len(kept) :]:
                piece.until = at
                done.append(piece)
            live[row] = kept + pieces_of(cells, row, column, at)
    return done + [piece for row in live.values() for piece in row]


class Times:
    """A CSS class for each pair of times."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.names = {}

    def percent(self, at):
        return f"{100 * at / self.seconds:.2f}".rstrip("0").rstrip(".")

    def name(self, piece):
        pair = (self.percent(piece.at), None if piece.until is None else self.percent(piece.until))
        return self.names.setdefault(pair, f"t{len(self.names)}")

    def rules(self):
        for (at, until), name in self.names.items():
            gone = "" if until is None else f"{until}%{{opacity:0}}"
            yield f"@keyframes {name}{{0%{{opacity:0}}{at}%{{opacity:1}}{gone}}}.{name}{{animation-name:{name}}}"


def drawn(piece, times):
    """The piece as an element; nothing if it is blank."""
    text = piece.text.strip(" ")
    if not text:
        return None
    column = piece.column + len(piece.text) - len(piece.text.lstrip(" "))
    names = ([] if piece.at == 0 else [times.name(piece)]) + (["d"] if piece.dim else [])
    names += [] if piece.until is None else ["g"]
    style = f' class="{" ".join(names)}"' if names else ""
    # The width holds in whatever font there is.
    width = f' textLength="{len(text) * CELL:.1f}"' if len(text) > 1 else ""
    x, y = LEFT + column * CELL, BAR + TOP + piece.row * LINE + 14
    return f'<text x="{x:.1f}" y="{y}"{width}{style}>{html.escape(text, quote=False)}</text>'


def cursor(frames, times):
    """The cursor: its keyframes and its element."""
    steps = []
    last = None
    for at, _, (column, row) in frames:
        if (column, row) != last:
            last = (column, row)
            steps.append(f"{times.percent(at)}%{{transform:translate({column * CELL:.0f}px,{row * LINE}px)}}")
    column, row = last
    place = f"transform:translate({column * CELL:.0f}px,{row * LINE}px)"
    element = f'<rect id="c" x="{LEFT}" y="{BAR + TOP + 2}" width="{CELL}" height="16" style="{place}"/>'
    return f"@keyframes c{{{''.join(steps)}}}", element


def draw(title, frames, columns):
    """The SVG of `frames`: (seconds, rows of (character, dim), (column, row) of the cursor) each."""
    start = frames[0][0]
    frames = [(at - start, screen, place) for at, screen, place in frames]
    used = max(row for _, screen, _ in frames for row, cells in enumerate(screen) if cells) + 1
    seconds = frames[-1][0] + HOLD
    times = Times(seconds)
    elements = [element for piece in trace(frames) if (element := drawn(piece, times))]
    moves, block = cursor(frames, times)
    width, height = 2 * LEFT + columns * CELL, BAR + 2 * TOP + used * LINE
    dots = "".join(
        f'<circle cx="{LEFT + 6 + 20 * i}" cy="19" r="6" fill="{colour}"/>'
        for i, colour in enumerate(["#ff5f57", "#febc2e", "#28c840"])
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}">',
            f"<title>{title}</title>",
            "<style>" + STYLE.format(seconds=seconds) + moves + "\n" + "\n".join(times.rules()) + "\n" + CALM + "</style>",
            f'<rect width="100%" height="100%" rx="9" fill="#161b22"/><rect x=".5" y=".5" width="{width - 1:.0f}" '
            f'height="{height - 1}" rx="9" fill="none" stroke="#57606a"/>',
            f'{dots}<text class="b" x="{width / 2:.0f}" y="24" text-anchor="middle">{title}</text>',
            *elements,
            block,
            "</svg>\n",
        ]
    )
