"""Checks of the Swift side that take no Swift compiler; `check.sh` calls them.

    check.py syntax FILE...            every Swift file parses; needs tree-sitter and tree-sitter-swift
    check.py exports HEADER LIBRARY    the library has every function that the header declares
    check.py modulemap FOLDER          the module map names a header that is there
    check.py project FILE              every object of the Xcode project that is referred to exists
    check.py readme README SOURCE...   the README's Swift is tested
"""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

# What generated Swift has and the grammar does not know, though the compiler takes it: attributes for the documentation
# compiler between conditions, and closures that return nothing.
UNKNOWN = (
    (re.compile(rb"^#if swift\(>=5\.8\)\n.*?^#endif\n", re.MULTILINE | re.DOTALL), b""),
    (re.compile(rb"\{ \(\) \}"), b"{ Void() }"),
)
# A bracket that is missing, a keyword too many: the parser looks if it finds those.
FAULTS = ((b"{", b""), (b"func ", b"func func "), (b")", b""))


def syntax(paths: list[Path]) -> None:
    """Parses every file, and makes sure that a fault put into each one is found."""
    import tree_sitter
    import tree_sitter_swift

    parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_swift.language()))

    def faults(source: bytes) -> list[str]:
        found = []
        nodes = [parser.parse(source).root_node]
        while nodes:
            node = nodes.pop()
            if node.type == "ERROR" or node.is_missing:
                found.append(f"line {node.start_point[0] + 1}: {node.type}")
            nodes.extend(node.children)
        return sorted(found)

    injected = missed = 0
    for path in paths:
        source = path.read_bytes()
        for pattern, plain in UNKNOWN:
            source = pattern.sub(plain, source)
        found = faults(source)
        if found:
            sys.exit(f"{path}: {len(found)} faults: {'; '.join(found[:5])}")
        for before, after in FAULTS:
            # The middle one, so that it stands within code.
            places = [match.start() for match in re.finditer(re.escape(before), source)]
            if not places:
                continue
            place = places[len(places) // 2]
            injected += 1
            missed += not faults(source[:place] + after + source[place + len(before) :])
    # In a comment or a string a bracket may be missing.
    if injected == 0 or missed > injected // 5:
        sys.exit(f"the syntax check finds too little: {missed} of {injected} faults that were put in went unseen")
    print(f"syntax: {len(paths)} files without a fault; {injected - missed} of {injected} injected faults found")


def exports(header: Path, library: Path) -> None:
    """Compares the functions that a header declares with the symbols that a library defines."""
    text = re.sub(r"//.*", "", header.read_text())
    declared = set(re.findall(r"\b((?:uniffi|ffi)_thimble_ffi_\w+)\s*\(", text))
    if not declared:
        sys.exit(f"{header} declares no function: expected those of uniffi")
    listing = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True)
    defined = {line.split()[-1] for line in listing.stdout.splitlines()}
    missing = sorted(declared - defined)
    if missing:
        sys.exit(f"{library} lacks {len(missing)} of {len(declared)} functions: {', '.join(missing[:5])}")
    print(f"exports: all {len(declared)} functions of {header.name} are in {library.name}")


def modulemap(folder: Path) -> None:
    """The module has the name that the Swift file imports, and its headers are beside it."""
    text = (folder / "module.modulemap").read_text()
    match = re.fullmatch(r"\s*module\s+thimble_ffiFFI\s*\{(.*)\}\s*", text, re.DOTALL)
    if not match:
        sys.exit(f"{folder}/module.modulemap: expected one module thimble_ffiFFI, found {text[:80]!r}")
    headers = re.findall(r'\bheader\s+"([^"]+)"', match[1])
    missing = [header for header in headers if not (folder / header).is_file()]
    if not headers or missing:
        sys.exit(f"{folder}/module.modulemap: headers {headers}, of which {missing} are missing")
    print(f"module map: thimble_ffiFFI with {', '.join(headers)}")


def project(path: Path) -> None:
    """Reads the property list of an Xcode project and follows every reference."""
    text = path.read_text()
    objects = parse_plist(text)["objects"]
    identifier = re.compile(r"[0-9A-F]{24}")
    used = set(identifier.findall(re.sub(r"/\*.*?\*/", "", text)))
    dangling = sorted(used - objects.keys())
    if dangling:
        sys.exit(f"{path}: {dangling} are referred to and not there")
    kinds = {thing["isa"] for thing in objects.values()}
    expected = {"PBXProject", "PBXNativeTarget", "PBXFileSystemSynchronizedRootGroup", "XCLocalSwiftPackageReference"}
    if not expected <= kinds:
        sys.exit(f"{path}: no {expected - kinds}")
    root = path.parent.parent
    for thing in objects.values():
        kind, place = thing["isa"], thing.get("path", thing.get("relativePath"))
        local = kind in ("PBXFileSystemSynchronizedRootGroup", "XCLocalSwiftPackageReference")
        if local and not (root / place).is_dir():
            sys.exit(f"{path}: there is no folder {place}")
    print(f"project: {len(objects)} objects, no reference to one that is not there")


def parse_plist(text: str):
    """An old-style property list: dictionaries, lists, strings."""
    tokens = re.findall(r'"(?:\\.|[^"\\])*"|[{}();=,]|[\w./$-]+', re.sub(r"/\*.*?\*/|^//.*$", "", text, flags=re.MULTILINE))
    place = 0

    def take(expected: str | None = None) -> str:
        nonlocal place
        if place >= len(tokens) or (expected and tokens[place] != expected):
            found = tokens[place] if place < len(tokens) else "the end"
            sys.exit(f"property list: expected {expected or 'a value'}, found {found}, after {tokens[max(0, place - 8):place]}")
        place += 1
        return tokens[place - 1]

    def value():
        token = take()
        if token == "{":
            pairs = {}
            while tokens[place : place + 1] != ["}"]:
                key = take().strip('"')
                take("=")
                if key in pairs:
                    sys.exit(f"property list: {key} is there twice")
                pairs[key] = value()
                take(";")
            take("}")
            return pairs
        if token == "(":
            items = []
            while tokens[place : place + 1] != [")"]:
                items.append(value())
                if tokens[place : place + 1] != [")"]:
                    take(",")
            take(")")
            return items
        if token in "{}();=,":
            sys.exit(f"property list: expected a value, found {token}")
        return token.strip('"')

    whole = value()
    if place != len(tokens):
        sys.exit(f"property list: something follows its end: {tokens[place : place + 5]}")
    return whole


def readme(page: Path, *sources: Path) -> None:
    """Compares the lines between markers in tests with the Swift blocks of the page that has them, in their order."""
    between = re.compile(r"^ *// README begin\n(.*?)^ *// README end\n", re.MULTILINE | re.DOTALL)
    tested = []
    for source in sources:
        found = between.findall(source.read_text())
        if not found:
            sys.exit(f"{source} has no lines between README begin and README end")
        tested += found
    blocks = re.findall(r"^```swift\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    shown = [re.sub(r"^import .*\n+", "", block) for block in blocks]
    wanted = [textwrap.dedent(lines) for lines in tested]
    if shown != wanted:
        wrong = next((block for block in shown if block not in wanted), "a block that is missing")
        sys.exit(f"{page} does not show what {', '.join(map(str, sources))} test: {wrong}")
    print(f"readme: all {len(shown)} blocks of Swift are tested ones")


def main() -> None:
    verb, *rest = sys.argv[1:] or [""]
    paths = [Path(argument) for argument in rest]
    if verb == "syntax" and paths:
        syntax(paths)
    elif verb == "exports" and len(paths) == 2:
        exports(*paths)
    elif verb == "modulemap" and len(paths) == 1:
        modulemap(*paths)
    elif verb == "project" and len(paths) == 1:
        project(*paths)
    elif verb == "readme" and len(paths) >= 2:
        readme(*paths)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
