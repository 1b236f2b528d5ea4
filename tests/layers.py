"""Fails where an import runs against the direction of the data, or where modules import each other in a circle.

    python tests/layers.py [SRC]

Reads the `use` lines and the `crate::` paths of every file below SRC (src), its tests left out. The floors are those
of the table in src/lib.rs: a module imports from its own floor or from one below it."""
import pathlib
import re
import sys

FLOORS = [
    ["cli"],
    ["commands", "job", "report"],
    ["stages"],
    ["sources", "run"],
    ["teacher"],
    ["config"],
    ["drift"],
    ["student", "relevance"],
    ["models", "features"],
    ["lake"],
    ["process"],
    ["error"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
USE = re.compile(r"(?ms)^\s*(?:pub(?:\([a-z]+\))? )?use ([^;]+);")
PATH = re.compile(r"\b(?:crate|super)(?:::\w+)+")


def module_of(path):
    parts = list(path.with_suffix("").parts)
    return tuple(parts[:-1] if parts[-1] in ("mod", "lib", "main") else parts)


def leaves(tree, prefix=()):
    """All paths of a `use` tree, each a tuple of names."""
    tree = tree.strip()
    if "{" not in tree:
        name = tree.split(" as ")[0].strip()
        return [prefix + tuple(s for s in name.split("::") if s and s != "self")]
    head, body = tree.split("{", 1)
    prefix += tuple(s for s in head.strip().split("::") if s)
    parts, depth, start = [], 0, 0
    body = body.rsplit("}", 1)[0]
    for i, c in enumerate(body + ","):
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            parts.append(body[start:i])
            start = i + 1
    return [leaf for part in parts if part.strip() for leaf in leaves(part, prefix)]


def imports(text, here):
    """Absolute paths that a file names."""
    text = re.sub(r"(?m)^\s*//.*$", "", text)
    text = text.split("#[cfg(test)]\nmod tests {")[0]
    text = re.sub(r'(?m)^(?:#\[[^\n]*\]\n)*(?:pub(?:\([a-z]+\))? )?mod \w+;$', "", text)
    found = [leaf for tree in USE.findall(text) for leaf in leaves(tree)]
    found += [tuple(path.split("::")) for path in PATH.findall(USE.sub("", text))]
    for path in found:
        if path[0] == "crate":
            yield path[1:]
        elif path[0] == "super":
            base = here
            while path and path[0] == "super":
                base, path = base[:-1], path[1:]
            yield base + path
        elif here + path[:1] in MODULES:
            yield here + path


def longest(path):
    """The module that a path leads into."""
    for length in range(len(path), 0, -1):
        if path[:length] in MODULES:
            return path[:length]
    return None


def circles(graph):
    """Strongly connected modules (Tarjan 1972), those of one module left out."""
    index, low, stack, on, found = {}, {}, [], set(), []

    def visit(v):
        index[v] = low[v] = len(index)
        stack.append(v)
        on.add(v)
        for w in sorted(graph[v]):
            if w not in index:
                visit(w)
                low[v] = min(low[v], low[w])
            elif w in on:
                low[v] = min(low[v], index[w])
        if low[v] == index[v]:
            circle = []
            while True:
                w = stack.pop()
                on.discard(w)
                circle.append(w)
                if w == v:
                    break
            if len(circle) > 1:
                found.append(sorted(circle))

    for v in sorted(graph):
        if v not in index:
            visit(v)
    return found


sys.setrecursionlimit(10_000)
root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "src")
files = {module_of(p.relative_to(root)): p for p in sorted(root.rglob("*.rs")) if p.stem not in ("tests", "faults")}
MODULES = set(files)
graph = {}
wrong = 0
for here, path in files.items():
    if not here:
        continue
    graph[here] = {m for m in map(longest, imports(path.read_text(), here)) if m and m != here}
    for there in sorted(graph[here]):
        if here[0] not in FLOOR or there[0] not in FLOOR:
            print(f"{path}: {here[0]} or {there[0]} stands on no floor of tests/layers.py")
            wrong += 1
        elif FLOOR[there[0]] < FLOOR[here[0]]:
            print(f"{path}: imports {'::'.join(there)}, which is above it")
            wrong += 1
for circle in circles(graph):
    print("modules that import each other: " + ", ".join("::".join(m) for m in circle))
    for a in circle:
        print("    " + "::".join(a) + " -> " + ", ".join("::".join(b) for b in sorted(graph[a] & set(circle))))
    wrong += 1
print(f"{len(graph)} modules, {wrong} wrong")
sys.exit(wrong > 0)
